-- Lease one named session, due or not.
-- Atomic: a session that a worker holds is left to it.
-- KEYS[1] zset    due
-- KEYS[2] zset    quarantine
-- ARGV[1] session
-- ARGV[2] lease (ms)
-- Returns {'token', token} | {'busy'} a worker holds it | {'quarantined'} | {'missing'} not in Redis
local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not score then
  if redis.call('ZSCORE', KEYS[2], ARGV[1]) then return {'quarantined'} end
  return {'missing'}
end
local now_ms = to_ms(now_us())
if tonumber(score) > now_ms and tonumber(score) % 1 ~= 0 then return {'busy'} end
allow_at_memory_limit(KEYS[1])
local token = int(now_ms + tonumber(ARGV[2])) .. '.5'
redis.call('ZADD', KEYS[1], token, ARGV[1])
return {'token', token}
