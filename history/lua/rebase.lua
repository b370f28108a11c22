-- Keep a session's messages in Redis and forbid everything that the archive has of it: a new epoch with a floor.
-- Atomic: like a clear that keeps all messages.
-- Uses: clock, due, epoch, legal_hold, memory, number, recheck
-- Reads: epoch, state, recheck_at, last_active, owner
-- KEYS[1] hash    metadata
-- KEYS[2] zset    due
-- KEYS[3] hash    tally
-- KEYS[4] zset    quarantine
-- KEYS[5] hash    legal holds
-- ARGV[1] session id
-- ARGV[2] how long (ms) the session must have been idle, '' for any time
-- ARGV[3] epoch that the caller saw, '' for any
-- ARGV[4...] owners for whom the archive has the session
-- Returns {'rebased', floor} | {'held', hold} | {'active'} used too recently | {'changed'} another epoch | {'purged'}
local session = read_session(KEYS[1])
if session.state == 'purged' then return {'purged'} end
if ARGV[3] ~= '' and session.epoch ~= ARGV[3] then return {'changed'} end
local hold = legal_hold_of_any(KEYS[5], ARGV[1], session.owner, ARGV, 4)
if hold then return {'held', hold} end
local now_ms = clock_ms()
if ARGV[2] ~= '' and session.last_active then
  if tonumber(session.last_active) > now_ms - tonumber(ARGV[2]) then return {'active'} end
end
local epoch = int(next_epoch(KEYS[3], session.epoch))
local recheck_ms = next_recheck(KEYS[2], ARGV[1], KEYS[1], session.recheck_at)
allow_at_memory_limit(KEYS[2])
redis.call('HDEL', KEYS[1], FIELD.restored_count, FIELD.archived_count, FIELD.restore_token, FIELD.restore_until,
  FIELD.attempt, FIELD.attempts, FIELD.error, FIELD.state, FIELD.known_absent)
redis.call('HSET', KEYS[1], FIELD.epoch, epoch, FIELD.floor, epoch, FIELD.complete, '1')
redis.call('HSETNX', KEYS[1], FIELD.last_active, int(now_ms))
if recheck_ms > now_ms then redis.call('HSET', KEYS[1], FIELD.recheck_at, int(recheck_ms)) end
redis.call('ZREM', KEYS[4], ARGV[1])
set_due(KEYS[2], ARGV[1], now_ms)
return {'rebased', epoch}
