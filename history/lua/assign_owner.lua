-- Give an owner to a session that has none. A session that is asleep gets metadata, without messages; the worker takes it
-- away again when the archive has the owner too.
-- Atomic: from here on a purge of the owner finds the session, and a legal hold of the owner keeps it. A worker that has
-- claimed the session before loses its lease, because it would archive the session without the owner.
-- Uses: clock, due, epoch, lease, legal_hold, number
-- Reads: epoch, owner, state, known_absent, last_active, idle, max_age, floor, hold_pending, restore_until,
--   tombstone_until
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- KEYS[4] hash    tally
-- KEYS[5] hash    legal holds
-- KEYS[6] set     the owner's sessions
-- ARGV[1] session id
-- ARGV[2] owner
-- ARGV[3] '1' if the archive has the session
-- ARGV[4] default idle timeout (ms)
-- ARGV[5] default maximum age (ms) or ''
-- Returns 'assigned' the session is the owner's | 'other' another owner's | 'purged' | 'absent' neither in Redis nor in
--   the archive | 'damaged' the metadata was lost, so nothing tells whose the messages were
local session, length = read_session(KEYS[2]), redis.call('LLEN', KEYS[1])
if session.state == 'purged' then return 'purged' end
if session.owner and session.owner ~= ARGV[2] then return 'other' end
if length > 0 and not session.epoch then return 'damaged' end
if (session.known_absent or not session.epoch) and ARGV[3] ~= '1' then return 'absent' end
redis.call('SADD', KEYS[6], ARGV[1])
if session.owner then return 'assigned' end
local now_ms = clock_ms()
local is_due = not session.epoch or session.known_absent
if not session.epoch then
  session.epoch, session.last_active = int(next_epoch(KEYS[4])), int(now_ms)
  redis.call('HSET', KEYS[2], FIELD.epoch, session.epoch, FIELD.last_active, session.last_active)
end
redis.call('HSET', KEYS[2], FIELD.owner, ARGV[2], FIELD.owner_assigned, '1')
redis.call('HDEL', KEYS[2], FIELD.known_absent) -- the worker records the owner, and `info` must describe the session
if legal_hold(KEYS[5], ARGV[1], ARGV[2]) and not session.hold_pending then
  session.hold_pending, is_due = '1', true
  redis.call('HSET', KEYS[2], FIELD.hold_pending, session.hold_pending)
  -- The failed attempts of a session in quarantine were attempts to archive it.
  if session.state == 'quarantined' then redis.call('HDEL', KEYS[2], FIELD.attempts) end
end
local score = redis.call('ZSCORE', KEYS[3], ARGV[1])
if is_due then
  schedule(KEYS[3], ARGV[1], session, length, now_ms, ARGV[4], ARGV[5])
elseif score and is_lease(score) then
  reschedule(KEYS[3], ARGV[1], session, length, now_ms, ARGV[4], ARGV[5])
end
return 'assigned'
