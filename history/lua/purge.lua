-- Purge a session: it is empty at once and for good. A tombstone refuses late writes, and forbids all epochs that the
-- archive has. The worker erases the archived part, and once more when the tombstone ends and goes.
-- Atomic: no append, commit or restore comes between the look at the legal holds and the deletion.
-- Uses: clock, due, epoch, kind, legal_hold, number, recheck, tally
-- Reads: epoch, state, purge, recheck_at, recent_requests, last_active, owner, removed
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
-- ARGV[2] id of the purge: the same each time that this purge comes to the session
-- ARGV[3] how long (ms) the tombstone stands
-- ARGV[4] how long (ms) the session must have been idle, '' for any time
-- ARGV[5] owner of the session as the caller saw it in Redis, or ''
-- ARGV[6...] owners for whom the archive has the session
-- Returns {'purged', floor, messages removed} | {'held', hold} | {'active'} used too recently
--   | {'changed'} another owner
local session = read_session(KEYS[2])
local was_purged = session.state == 'purged'
-- The same purge again, even if the session has begun anew since.
if session.purge == ARGV[2] then return {'purged', session.epoch, session.removed or '0'} end
if (session.owner or '') ~= ARGV[5] then return {'changed'} end
local hold = legal_hold_of_any(KEYS[7], ARGV[1], session.owner, ARGV, 6)
if hold then return {'held', hold} end
local now_ms = clock_ms()
if ARGV[4] ~= '' and not was_purged and session.last_active then
  if tonumber(session.last_active) > now_ms - tonumber(ARGV[4]) then return {'active'} end
end
local epoch = int(next_epoch(KEYS[4], session.epoch))
local length = redis.call('LLEN', KEYS[1])
local requests = session.recent_requests or redis.call('GET', KEYS[6])
-- The recheck comes after every lease that is running now, because an upload may end after the first erasure.
local recheck_ms = next_recheck(KEYS[3], ARGV[1], KEYS[2], session.recheck_at)
local until_ms = math.max(now_ms + tonumber(ARGV[3]), recheck_ms)
-- The deletion comes first: Redis allows a deletion at its memory limit, and then also the writes after it.
redis.call('ZREM', KEYS[5], ARGV[1])
note_left(KEYS[4], KEYS[1])
redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[6], KEYS[8])
if KEYS[9] then redis.call('SREM', KEYS[9], ARGV[1]) end
set_due(KEYS[3], ARGV[1], until_ms)
redis.call('HSET', KEYS[2], FIELD.epoch, epoch, FIELD.floor, epoch, FIELD.complete, '1', FIELD.last_active, int(now_ms),
  FIELD.state, 'purged', FIELD.purge, ARGV[2], FIELD.tombstone_until, int(until_ms), FIELD.removed, int(length))
if recheck_ms > now_ms then redis.call('HSET', KEYS[2], FIELD.recheck_at, int(recheck_ms)) end
if requests then redis.call('HSET', KEYS[2], FIELD.recent_requests, requests) end
if not was_purged then
  note_count(KEYS[4], 'tombstones')
  note_count(KEYS[4], 'purged')
end
return {'purged', epoch, int(length)}
