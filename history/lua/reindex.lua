-- Mend the index entry of a session: one that is missing is added, one without a session is dropped.
-- Atomic: a session that comes or goes meanwhile keeps or loses its entry with it.
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- KEYS[4] zset    quarantine
-- ARGV[1] session
-- ARGV[2] default idle timeout (ms)
-- ARGV[3] default maximum age (ms) or ''
-- Returns 'added' | 'dropped' | 'right' there was nothing to mend
local due = redis.call('ZSCORE', KEYS[3], ARGV[1])
local quarantined = redis.call('ZSCORE', KEYS[4], ARGV[1])
if redis.call('EXISTS', KEYS[1], KEYS[2]) == 0 then
  if not (due or quarantined) then return 'right' end
  redis.call('ZREM', KEYS[3], ARGV[1])
  redis.call('ZREM', KEYS[4], ARGV[1])
  return 'dropped'
end
if due or quarantined then return 'right' end
local meta = redis.call('HMGET', KEYS[2], 'epoch', 'active', 'idle', 'max_age', 'floor', 'state')
local now_ms = int(to_ms(now_us()))
if meta[6] == 'quarantined' then
  redis.call('ZADD', KEYS[4], now_ms, ARGV[1])
elseif meta[5] or not (meta[1] and meta[2]) then
  set_due(KEYS[3], ARGV[1], now_ms)
else
  schedule(KEYS[3], ARGV[1], tonumber(meta[2]), meta[1], meta[3] or ARGV[2], meta[4] or ARGV[3])
end
return 'added'
