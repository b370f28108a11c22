-- Begin a restore: leave its token, in a new epoch where the session is not in Redis.
-- Atomic: the newest token is the only one that can finish, and a worker in the middle of an archive can't delete.
-- KEYS[1] hash    metadata
-- KEYS[2] zset    due
-- KEYS[3] hash    tally
-- ARGV[1] session
-- ARGV[2] token of this restore: the same for each sending of the same restore
-- ARGV[3] lease (ms): how long the session is left alone unless the restore goes on
-- Returns {'begun', epoch} | {'whole'} nothing is in the archive alone
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'whole', 'state')
if meta[2] then return {'whole'} end
local now = now_us()
local epoch = meta[1]
if epoch then
  redis.call('HSET', KEYS[1], 'restoring', ARGV[2])
else
  epoch = int(next_epoch(KEYS[3]))
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'active', int(to_ms(now)), 'restoring', ARGV[2])
end
-- A quarantined session waits for a person.
if meta[3] ~= 'quarantined' then redis.call('ZADD', KEYS[2], int(to_ms(now) + tonumber(ARGV[3])), ARGV[1]) end
return {'begun', epoch}
