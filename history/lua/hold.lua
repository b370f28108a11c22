-- Put a session under a legal hold or release it. The session is due then, and the worker updates its objects in the
-- archive.
-- Atomic: a clear or a purge either comes before the hold or is refused.
-- Uses: clock, due, epoch, legal_hold, number, owner
-- Reads: epoch, state, last_active, idle, max_age, floor, hold_pending, restore_until, tombstone_until, owner, complete
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- KEYS[4] hash    tally
-- KEYS[5] hash    legal holds
-- ARGV[1] session id
-- ARGV[2] 'set' | 'release' | 'owner' the hold of its owner was set or released
-- ARGV[3] the reason of a hold that is set
-- ARGV[4] caller
-- ARGV[5] who sets it, '' if nobody said
-- Returns {'noted'} | {'none'} there was no hold to release | {'purged'} | {'owner'} another owner's session
--   | {'unowned'} | {'unknown'} the session may be asleep, and another caller has set its hold
local session = read_session(KEYS[2])
if session.state == 'purged' then return {'purged'} end
local refused = refused_caller(session.owner, ARGV[4], KEYS[1])
if refused then return refused end
-- Redis does not tell whose a sleeping session is. The caller who has set its hold may change it, and the worker compares
-- that caller with the archive.
local is_unproven = ARGV[4] ~= '*' and may_be_asleep(session.owner, session.complete, KEYS[1])
local hold = redis.call('HGET', KEYS[5], 's' .. ARGV[1])
if is_unproven and hold and redis.call('HGET', KEYS[5], 'c' .. ARGV[1]) ~= ARGV[4] then return {'unknown'} end
-- Before the first write: keys of a wrong type refuse all of it.
local length = redis.call('LLEN', KEYS[1])
redis.call('ZSCORE', KEYS[3], ARGV[1])
local now_ms = clock_ms()
if ARGV[2] == 'set' then
  redis.call('HSET', KEYS[5], 's' .. ARGV[1], int(hold_moment(KEYS[5], 'session', ARGV[1])) .. ':' .. ARGV[3], 'c' .. ARGV[1], ARGV[4])
  note_setter(KEYS[5], 's' .. ARGV[1], ARGV[5])
elseif ARGV[2] == 'release' then
  if not hold then return {'none'} end
  redis.call('HDEL', KEYS[5], 's' .. ARGV[1], 'c' .. ARGV[1], 'bs' .. ARGV[1])
  note_release(KEYS[5], 'session', ARGV[1], hold:match('^(%d+):'), now_ms)
end
if not session.epoch and length == 0 then
  redis.call('HSET', KEYS[2], FIELD.epoch, int(next_epoch(KEYS[4])), FIELD.last_active, int(now_ms))
end
session.hold_pending = '1'
redis.call('HSET', KEYS[2], FIELD.hold_pending, session.hold_pending)
if is_unproven then
  redis.call('HSET', KEYS[2], FIELD.unproven_caller, ARGV[4])
else
  redis.call('HDEL', KEYS[2], FIELD.unproven_caller)
end
redis.call('HDEL', KEYS[2], FIELD.known_absent) -- `info` must describe a session that is under a hold
-- The failed attempts of a session in quarantine were attempts to archive it.
if session.state == 'quarantined' then redis.call('HDEL', KEYS[2], FIELD.attempts) end
schedule(KEYS[3], ARGV[1], session, length, now_ms)
return {'noted'}
