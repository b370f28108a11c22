-- Note that a session's objects in the archive carry its legal hold, or do so no more.
-- Atomic: a hold that was set or released meanwhile is still to be seen to.
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- KEYS[4] hash    legal holds
-- ARGV[1] session
-- ARGV[2] token
-- ARGV[3] the hold that was seen to, or ''
-- ARGV[4] default idle timeout (ms)
-- ARGV[5] default maximum age (ms) or ''
-- Returns 'done' | 'other' there is another hold by now, or no session
local meta = redis.call('HMGET', KEYS[2], 'epoch', 'owner', 'active', 'idle', 'max_age', 'floor')
if not meta[1] or (legal_hold(KEYS[4], ARGV[1], meta[2]) or '') ~= ARGV[3] then return 'other' end
allow_at_memory_limit(KEYS[3])
redis.call('HDEL', KEYS[2], 'holding', 'attempt', 'attempts', 'error')
if holds(KEYS[3], ARGV[1], ARGV[2]) then
  if redis.call('LLEN', KEYS[1]) > 0 and not meta[6] then
    schedule(KEYS[3], ARGV[1], tonumber(meta[3]), meta[1], meta[4] or ARGV[4], meta[5] or ARGV[5])
  else
    set_due(KEYS[3], ARGV[1], to_ms(now_us()))
  end
end
return 'done'
