-- Empty a session at once: a new epoch whose floor forbids all older ones to come back.
-- Atomic: no append, commit or restore sees the old messages without the old epoch.
-- The session is due now and is not archived before the worker has erased the older segments.
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- KEYS[4] hash    tally
-- KEYS[5] zset    quarantine
-- ARGV[1] session
-- ARGV[2] request id, 8 bytes: the same for each sending of the same clear
-- Returns the epoch of the clear
local keep = redis.call('HMGET', KEYS[2], 'idle', 'max_age', 'owner', 'epoch', 'seen')
if has_seen(keep[5], ARGV[2]) then return keep[4] end
local epoch = int(next_epoch(KEYS[4], keep[4]))
local now_ms = int(to_ms(now_us()))
-- The deletion comes first: Redis allows it at its memory limit, and what follows it too.
redis.call('UNLINK', KEYS[1], KEYS[2])
redis.call('ZADD', KEYS[3], now_ms, ARGV[1])
redis.call('ZREM', KEYS[5], ARGV[1])
redis.call('HSET', KEYS[2], 'epoch', epoch, 'floor', epoch, 'whole', '1', 'active', now_ms,
  'seen', with_seen(keep[5], ARGV[2]))
for index, name in ipairs({'idle', 'max_age', 'owner'}) do
  if keep[index] then redis.call('HSET', KEYS[2], name, keep[index]) end
end
return epoch
