-- Lease the sessions of some shards that have been due longest. The lease is the due score itself.
-- Atomic: a session is leased by one caller at a time.
-- Uses: clock, lease, memory, number, shards
-- KEYS of each shard:
-- KEYS[1] zset    due
-- ARGV[1] how many sessions of a shard at most
-- ARGV[2] lease (ms)
-- Returns for each shard {token, session id...}, or its error
local now_ms = clock_ms()
local token = lease_token(now_ms, ARGV[2])
return each_shard(1, function(KEYS)
  allow_at_memory_limit(KEYS[1])
  local reply, scores = {token}, {}
  for _, session_id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', int(now_ms), 'LIMIT', 0, ARGV[1])) do
    reply[#reply + 1] = session_id
    scores[#scores + 1] = token
    scores[#scores + 1] = session_id
  end
  for from = 1, #scores, 2000 do
    redis.call('ZADD', KEYS[1], 'XX', unpack(scores, from, math.min(from + 1999, #scores)))
  end
  return reply
end)
