-- Begin an attempt at a claimed session: count the attempt and describe the session.
-- Atomic: the description is of the state that the token protects. A restore that was still running is over:
-- its token goes, so it can't swap in any more.
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- ARGV[1] session
-- ARGV[2] token
-- Returns {now ms, length, score, field, value, ...} | {} the lease is lost, or nothing is there (any more)
if not holds(KEYS[3], ARGV[1], ARGV[2]) then return {} end
local length = redis.call('LLEN', KEYS[1])
if length == 0 and redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('ZREM', KEYS[3], ARGV[1])
  return {}
end
-- The deletion comes first: Redis allows it at its memory limit, and what follows it too.
redis.call('HDEL', KEYS[2], 'restoring')
redis.call('HINCRBY', KEYS[2], 'attempts', 1)
-- Only a Redis that has this has the messages that were counted: a replica that was promoted may lack both.
redis.call('HSET', KEYS[2], 'attempt', ARGV[2])
return {int(to_ms(now_us())), int(length), ARGV[2], unpack(redis.call('HGETALL', KEYS[2]))}
