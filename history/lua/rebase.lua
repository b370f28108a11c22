-- Keep a session's messages in Redis and forbid all that the archive has of it: a new epoch with a floor.
-- Atomic: as a clear, but for the messages.
-- KEYS[1] hash    metadata
-- KEYS[2] zset    due
-- KEYS[3] hash    tally
-- KEYS[4] zset    quarantine
-- KEYS[5] hash    legal holds
-- ARGV[1] session
-- ARGV[2] how long (ms) the session must have been idle, '' for any time
-- ARGV[3] epoch that was looked at, '' for any
-- ARGV[4...] owners that the archive has it for
-- Returns {'rebased', floor} | {'held', hold} | {'active'} used too lately | {'changed'} another epoch | {'purged'}
local keep = redis.call('HMGET', KEYS[1], 'epoch', 'state', 'again', 'active', 'owner')
if keep[2] == 'purged' then return {'purged'} end
if ARGV[3] ~= '' and keep[1] ~= ARGV[3] then return {'changed'} end
local hold = legal_hold(KEYS[5], ARGV[1], keep[5])
for index = 4, #ARGV do hold = hold or legal_hold(KEYS[5], ARGV[1], ARGV[index]) end
if hold then return {'held', hold} end
local now = to_ms(now_us())
if ARGV[2] ~= '' and keep[4] and tonumber(keep[4]) > now - tonumber(ARGV[2]) then return {'active'} end
local epoch = int(next_epoch(KEYS[3], keep[1]))
local again = lease_end(KEYS[2], ARGV[1], keep[3], KEYS[1])
allow_at_memory_limit(KEYS[2])
redis.call('HDEL', KEYS[1], 'base', 'archived', 'restoring', 'restoring_until', 'attempt', 'attempts', 'error', 'state',
  'empty')
redis.call('HSET', KEYS[1], 'epoch', epoch, 'floor', epoch, 'whole', '1')
redis.call('HSETNX', KEYS[1], 'active', int(now))
if again > now then redis.call('HSET', KEYS[1], 'again', int(again)) end
redis.call('ZREM', KEYS[4], ARGV[1])
set_due(KEYS[2], ARGV[1], now)
return {'rebased', epoch}
