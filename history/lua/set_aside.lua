-- Put a session aside under another id, because the archive has its id for another owner. It is an ordinary session there,
-- due now, and keeps its owner, its expiry, its legal hold, and an erasure that is pending.
-- Atomic: no message is under both ids or under none, and a session that has changed since the caller looked stays.
-- Uses: clock, due, epoch, legal_hold, memory
-- Reads: epoch, owner, state
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- KEYS[4] hash    tally
-- KEYS[5] zset    quarantine
-- KEYS[6] hash    legal holds
-- KEYS[7] hash    index of a thread's records
-- KEYS[8] list    messages
-- KEYS[9] hash    metadata
-- KEYS[10] set    the owner's sessions; present only with an owner
-- ARGV[1] session id
-- ARGV[2] the other id, whose keys are KEYS[8] and KEYS[9]
-- ARGV[3] epoch that the caller saw
-- ARGV[4] owner that the caller saw, or ''
-- Returns 1 | 0 the session has changed
local session = read_session(KEYS[2])
if session.epoch ~= ARGV[3] or (session.owner or '') ~= ARGV[4] or session.state == 'purged' then return 0 end
-- The writes to keys of the shard and the owner come first. If one of these keys has a wrong type, the script fails
-- before a message has moved.
allow_at_memory_limit(KEYS[3])
remember_epoch(KEYS[4], session.epoch)
if KEYS[10] then
  redis.call('SREM', KEYS[10], ARGV[1])
  redis.call('SADD', KEYS[10], ARGV[2])
end
redis.call('ZREM', KEYS[5], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
set_due(KEYS[3], ARGV[2], clock_ms())
-- Redis does not tell who set the hold, so it keeps both.
local hold = redis.call('HGET', KEYS[6], 's' .. ARGV[1])
if hold then
  redis.call('HSET', KEYS[6], 's' .. ARGV[2], hold)
  note_setter(KEYS[6], 's' .. ARGV[2], redis.call('HGET', KEYS[6], 'bs' .. ARGV[1]) or '')
end
redis.call('UNLINK', KEYS[7]) -- it is made anew from the list
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('RENAME', KEYS[1], KEYS[8]) end
redis.call('RENAME', KEYS[2], KEYS[9])
-- All of its messages are in the list, and the archive has nothing under the other id.
redis.call('HDEL', KEYS[9], FIELD.restored_count, FIELD.archived_count, FIELD.restore_token, FIELD.restore_until,
  FIELD.attempt, FIELD.attempts, FIELD.error, FIELD.state, FIELD.known_absent, FIELD.unproven_caller)
redis.call('HSET', KEYS[9], FIELD.complete, '1')
if hold then redis.call('HSET', KEYS[9], FIELD.hold_pending, '1') end
return 1
