-- Empty a session at once: it gets a new epoch with a floor, so that no older epoch can come back.
-- The session is due now, and is not archived before the worker has erased the older segments.
-- Atomic: no append, commit or restore sees the old messages without the old epoch.
-- Uses: clock, due, epoch, kind, legal_hold, number, owner, recheck, requests
-- Reads: idle, max_age, retention, owner, epoch, recent_requests, recheck_at, state, complete,
--   owner_assigned
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- KEYS[4] hash    tally
-- KEYS[5] zset    quarantine
-- KEYS[6] string  recent requests, kept from before the session left Redis
-- KEYS[7] hash    legal holds
-- KEYS[8] hash    index of a thread's records
-- KEYS[9] set     the owner's sessions; present only with an owner
-- ARGV[1] session id
-- ARGV[2] request id, 8 bytes: the same each time that the same clear is sent
-- ARGV[3] caller; an owner who is named becomes that of a session that is nobody's, as by a write
-- Returns {'cleared', epoch of the clear, or 0 if that epoch has left Redis since} | {'held', hold} | {'purged'}
--   | {'owner'} another owner's session | {'unowned'}
local session = read_session(KEYS[2])
local requests = session.recent_requests or redis.call('GET', KEYS[6])
if is_recent(requests, ARGV[2]) then return {'cleared', session.epoch or '0'} end
if session.state == 'purged' then return {'purged'} end
local refused = refused_caller(session.owner, ARGV[3], KEYS[1])
if refused then return refused end
local owner = session.owner or named_owner(ARGV[3])
local hold = legal_hold(KEYS[7], ARGV[1], owner)
if hold then return {'held', hold} end
local epoch = int(next_epoch(KEYS[4], session.epoch))
local now_ms = clock_ms()
-- A worker may be uploading. If it dies, the recheck after its lease finds what it has left in the archive.
local recheck_ms = next_recheck(KEYS[3], ARGV[1], KEYS[2], session.recheck_at)
-- The deletion comes first: Redis allows a deletion at its memory limit, and then also the writes after it.
redis.call('ZREM', KEYS[5], ARGV[1])
note_left(KEYS[4], KEYS[1])
redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[8])
set_due(KEYS[3], ARGV[1], now_ms)
redis.call('HSET', KEYS[2], FIELD.epoch, epoch, FIELD.floor, epoch, FIELD.complete, '1', FIELD.last_active, int(now_ms),
  FIELD.recent_requests, with_request(requests, ARGV[2], now_ms))
if recheck_ms > now_ms then redis.call('HSET', KEYS[2], FIELD.recheck_at, int(recheck_ms)) end
if session.idle then redis.call('HSET', KEYS[2], FIELD.idle, session.idle) end
if session.max_age then redis.call('HSET', KEYS[2], FIELD.max_age, session.max_age) end
if session.retention then redis.call('HSET', KEYS[2], FIELD.retention, session.retention) end
-- The worker compares the caller with the archive before it erases anything there.
if ARGV[3] ~= '*' and not session.complete then redis.call('HSET', KEYS[2], FIELD.unproven_caller, ARGV[3]) end
if owner then redis.call('HSET', KEYS[2], FIELD.owner, owner) end
if session.owner_assigned then redis.call('HSET', KEYS[2], FIELD.owner_assigned, session.owner_assigned) end
if KEYS[9] then redis.call('SADD', KEYS[9], ARGV[1]) end
return {'cleared', epoch}
