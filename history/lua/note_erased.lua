-- Note that the archive below a cleared session's floor is erased; the session can be archived again.
-- An empty session is due at once, since there is nothing left to keep in Redis. A tombstone goes when its time is over.
-- Atomic: a later clear keeps its own floor.
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- KEYS[4] hash    tally
-- ARGV[1] session
-- ARGV[2] token
-- ARGV[3] the floor that was erased below
-- ARGV[4] default idle timeout (ms)
-- ARGV[5] default maximum age (ms) or ''
-- Returns 'done' | 'again' when a lease that was running at the clear, or the tombstone, has ended | 'other' floor, or no session
local meta = redis.call('HMGET', KEYS[2], 'epoch', 'floor', 'active', 'idle', 'max_age', 'again', 'state',
  'until')
if meta[2] ~= ARGV[3] then return 'other' end
local now_ms = to_ms(now_us())
-- Nothing failed, so that no number of looks before the leases' end leads to quarantine.
redis.call('HDEL', KEYS[2], 'attempt', 'attempts', 'error')
local again = math.max(tonumber(meta[6] or 0), tonumber(meta[8] or 0))
if again > now_ms then
  if holds(KEYS[3], ARGV[1], ARGV[2]) then set_due(KEYS[3], ARGV[1], again) end
  return 'again'
end
if meta[7] == 'purged' then
  leave(KEYS[4], meta[1])
  redis.call('HINCRBY', KEYS[4], 'tombstones', -1)
  redis.call('UNLINK', KEYS[2])
  redis.call('ZREM', KEYS[3], ARGV[1])
  return 'done'
end
redis.call('HDEL', KEYS[2], 'floor', 'again')
if holds(KEYS[3], ARGV[1], ARGV[2]) then
  if redis.call('LLEN', KEYS[1]) > 0 then
    schedule(KEYS[3], ARGV[1], tonumber(meta[3]), meta[1], meta[4] or ARGV[4], meta[5] or ARGV[5])
  else
    set_due(KEYS[3], ARGV[1], now_ms)
  end
end
return 'done'
