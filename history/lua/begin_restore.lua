-- Begin a restore: leave its token, in a new epoch where the session is not in Redis.
-- Atomic: the newest token is the only one that can finish, and a worker in the middle of an archive can't delete.
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- KEYS[4] hash    tally
-- KEYS[5] string  requests that the session had seen when it left Redis
-- ARGV[1] session
-- ARGV[2] token of this restore: the same for each sending of the same restore
-- ARGV[3] lease (ms): how long the session is left alone unless the restore goes on
-- ARGV[4] '1' to leave a restore alone that is running
-- Returns {'begun', epoch, length of the list} | {'complete'} nothing is in the archive alone | {'running'}
--   | {'purged'} | {'damaged'} the metadata was lost, so that nothing tells which messages are of which epoch
local meta = redis.call('HMGET', KEYS[2], 'epoch', 'whole', 'state', 'restoring', 'restoring_until')
if meta[3] == 'purged' then return {'purged'} end
if meta[2] then return {'complete'} end
local length = redis.call('LLEN', KEYS[1])
local epoch = meta[1]
if length > 0 and not epoch then return {'damaged'} end
local now_ms = to_ms(now_us())
-- Reads and writes move the due moment, but they do not keep a restore alive.
local running = meta[4] and meta[4] ~= ARGV[2] and tonumber(meta[5] or 0) > now_ms
if ARGV[4] == '1' and running then return {'running'} end
local lease_end = now_ms + tonumber(ARGV[3])
allow_at_memory_limit(KEYS[3])
redis.call('HSET', KEYS[2], 'restoring', ARGV[2], 'restoring_until', int(lease_end))
if not epoch then
  epoch = int(next_epoch(KEYS[4]))
  redis.call('HSET', KEYS[2], 'epoch', epoch, 'active', int(now_ms))
  local seen = redis.call('GET', KEYS[5])
  if seen then redis.call('HSET', KEYS[2], 'seen', seen) end
end
-- A quarantined session waits for a person.
if meta[3] ~= 'quarantined' then set_due(KEYS[3], ARGV[1], lease_end) end
return {'begun', epoch, int(length)}
