-- Give messages whose metadata was lost new metadata, and make the session due.
-- Atomic: only while the messages are those that were looked at and no metadata has come since.
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- KEYS[4] hash    tally
-- KEYS[5] zset    quarantine
-- ARGV[1] session
-- ARGV[2] how many messages there are
-- ARGV[3] epoch, '' for a new one
-- ARGV[4] how many leading messages are of older epochs in the archive
-- ARGV[5] how many leading messages are safe in the archive
-- ARGV[6] '1' where nothing of the session is in the archive alone
-- Returns 1 | 0 it has changed
if redis.call('HGET', KEYS[2], 'epoch') or redis.call('LLEN', KEYS[1]) ~= tonumber(ARGV[2]) then return 0 end
local epoch = ARGV[3]
if epoch == '' then epoch = int(next_epoch(KEYS[4])) end
local now_ms = int(to_ms(now_us()))
redis.call('HSET', KEYS[2], 'epoch', epoch, 'active', now_ms, 'base', ARGV[4], 'archived', ARGV[5])
if ARGV[6] == '1' then redis.call('HSET', KEYS[2], 'whole', '1') end
redis.call('HDEL', KEYS[2], 'state', 'attempts', 'error')
redis.call('ZREM', KEYS[5], ARGV[1])
set_due(KEYS[3], ARGV[1], now_ms)
return 1
