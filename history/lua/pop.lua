-- Take back a session's last message. The session gets a new epoch with a floor, because within an epoch the list only
-- grows. It is due now, and is not archived before the worker has erased the older segments.
-- Atomic: like a clear that keeps the other messages, and only if the session is as the caller has read it.
-- Uses: clock, due, epoch, kind, legal_hold, number, owner, recheck, requests
-- Reads: epoch, recent_requests, state, complete, owner, recheck_at
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- KEYS[4] hash    tally
-- KEYS[5] zset    quarantine
-- KEYS[6] string  recent requests, kept from before the session left Redis
-- KEYS[7] hash    legal holds
-- ARGV[1] session id
-- ARGV[2] request id, 8 bytes: the same each time that the same pop is sent
-- ARGV[3] epoch that the caller has read
-- ARGV[4] how many messages it had
-- ARGV[5] caller
-- Returns {'popped'}, also if there was no message | {'moved'} another epoch or number of messages
--   | {'incomplete'} a part may be in the archive alone, and a floor would forbid it | {'held', hold} | {'purged'}
--   | {'owner'} another owner's session | {'unowned'}
local session = read_session(KEYS[2])
local requests = session.recent_requests or redis.call('GET', KEYS[6])
if is_recent(requests, ARGV[2]) then return {'popped'} end
if session.state == 'purged' then return {'purged'} end
local refused = refused_caller(session.owner, ARGV[5], KEYS[1])
if refused then return refused end
if (session.epoch or '0') ~= ARGV[3] or redis.call('LLEN', KEYS[1]) ~= tonumber(ARGV[4]) then return {'moved'} end
if not session.complete then return {'incomplete'} end
if ARGV[4] == '0' then return {'popped'} end
local hold = legal_hold(KEYS[7], ARGV[1], session.owner)
if hold then return {'held', hold} end
local now_ms = clock_ms()
local epoch = int(next_epoch(KEYS[4], session.epoch))
-- A worker may be uploading. If it dies, the recheck after its lease finds what it has left in the archive.
local recheck_ms = next_recheck(KEYS[3], ARGV[1], KEYS[2], session.recheck_at)
-- This write comes first: Redis allows a deletion at its memory limit, and it fails if the key has a wrong type.
redis.call('ZREM', KEYS[5], ARGV[1])
if ARGV[4] == '1' then note_left(KEYS[4], KEYS[1]) end
redis.call('RPOP', KEYS[1])
redis.call('HDEL', KEYS[2], FIELD.restored_count, FIELD.archived_count, FIELD.attempt, FIELD.attempts, FIELD.error,
  FIELD.state, FIELD.last_written)
redis.call('HSETNX', KEYS[2], FIELD.created, int(to_ms(tonumber(session.epoch))))
redis.call('HSET', KEYS[2], FIELD.epoch, epoch, FIELD.floor, epoch, FIELD.last_active, int(now_ms),
  FIELD.recent_requests, with_request(requests, ARGV[2], now_ms))
if recheck_ms > now_ms then redis.call('HSET', KEYS[2], FIELD.recheck_at, int(recheck_ms)) end
set_due(KEYS[3], ARGV[1], now_ms)
return {'popped'}
