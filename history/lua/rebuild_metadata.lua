-- Give messages whose metadata was lost new metadata, and make the session due.
-- Atomic: only if the messages are those that the caller saw and there is still no metadata.
-- Uses: clock, due, epoch, number
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- KEYS[4] hash    tally
-- KEYS[5] zset    quarantine
-- ARGV[1] session id
-- ARGV[2] how many messages there are
-- ARGV[3] epoch, '' for a new one
-- ARGV[4] restored count: how many messages, from the first on, are of older epochs in the archive
-- ARGV[5] how many messages, from the first on, are safe in the archive
-- ARGV[6] '1' if no part of the session is in the archive alone
-- Returns 1 | 0 the session has changed
if redis.call('HGET', KEYS[2], FIELD.epoch) or redis.call('LLEN', KEYS[1]) ~= tonumber(ARGV[2]) then return 0 end
local epoch = ARGV[3]
if epoch == '' then epoch = int(next_epoch(KEYS[4])) end
local now_ms = int(clock_ms())
redis.call('HSET', KEYS[2], FIELD.epoch, epoch, FIELD.last_active, now_ms, FIELD.restored_count, ARGV[4],
  FIELD.archived_count, ARGV[5])
if ARGV[6] == '1' then redis.call('HSET', KEYS[2], FIELD.complete, '1') end
redis.call('HDEL', KEYS[2], FIELD.state, FIELD.attempts, FIELD.error)
redis.call('ZREM', KEYS[5], ARGV[1])
set_due(KEYS[3], ARGV[1], now_ms)
return 1
