-- Note that a session's objects in the archive carry its legal hold, or carry none any more.
-- Atomic: a hold that was set or released meanwhile has yet to be applied.
-- Uses: clock, due, lease, legal_hold, memory
-- Reads: epoch, owner, last_active, idle, max_age, floor, state, hold_pending, restore_until, tombstone_until
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- KEYS[4] hash    legal holds
-- ARGV[1] session id
-- ARGV[2] token
-- ARGV[3] the hold that the worker has applied, or ''
-- ARGV[4] default idle timeout (ms)
-- ARGV[5] default maximum age (ms) or ''
-- Returns 'done' | 'other' there is another hold by now, or no session
local session = read_session(KEYS[2])
local length = redis.call('LLEN', KEYS[1])
if not session.epoch and length == 0 then return 'other' end
if (legal_hold(KEYS[4], ARGV[1], session.owner) or '') ~= ARGV[3] then return 'other' end
allow_at_memory_limit(KEYS[3])
redis.call('HDEL', KEYS[2], FIELD.hold_pending, FIELD.attempt, FIELD.attempts, FIELD.waiting_since)
session.hold_pending = nil
local is_quarantined = session.state == 'quarantined'
if not is_quarantined then redis.call('HDEL', KEYS[2], FIELD.error) end
-- A session in quarantine leaves the due index in any case: nobody may archive it.
if is_quarantined or owns_lease(KEYS[3], ARGV[1], ARGV[2]) then
  schedule(KEYS[3], ARGV[1], session, length, clock_ms(), ARGV[4], ARGV[5])
end
return 'done'
