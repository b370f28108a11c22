-- Put a session under a legal hold or release it, and have the worker see to its objects in the archive.
-- Atomic: a clear or a purge comes before the hold or is refused.
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- KEYS[4] hash    tally
-- KEYS[5] hash    legal holds
-- ARGV[1] session
-- ARGV[2] 'set' | 'release' | 'owner' that of its owner was set or released
-- ARGV[3] the reason of a hold that is set
-- Returns 'noted' | 'none' there was no hold to release | 'purged'
local meta = redis.call('HMGET', KEYS[2], 'epoch', 'state')
if meta[2] == 'purged' then return 'purged' end
local now = now_us()
if ARGV[2] == 'set' then
  redis.call('HSET', KEYS[5], 's' .. ARGV[1], int(to_ms(now)) .. ':' .. ARGV[3])
elseif ARGV[2] == 'release' and redis.call('HDEL', KEYS[5], 's' .. ARGV[1]) == 0 then
  return 'none'
end
if not meta[1] and redis.call('LLEN', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[2], 'epoch', int(next_epoch(KEYS[4])), 'active', int(to_ms(now)))
end
redis.call('HSET', KEYS[2], 'holding', '1')
redis.call('HDEL', KEYS[2], 'empty') -- there is something to be told of it
if meta[2] ~= 'quarantined' then set_due(KEYS[3], ARGV[1], to_ms(now)) end
return 'noted'
