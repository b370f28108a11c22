-- Note that a session's objects in the archive carry its legal hold, or carry none any more.
-- Atomic: a hold that was set or released meanwhile has yet to be applied.
-- Uses: clock, due, lease, legal_hold, memory
-- Reads: epoch, owner, last_active, idle, max_age, floor
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
if not session.epoch or (legal_hold(KEYS[4], ARGV[1], session.owner) or '') ~= ARGV[3] then return 'other' end
allow_at_memory_limit(KEYS[3])
redis.call('HDEL', KEYS[2], FIELD.hold_pending, FIELD.attempt, FIELD.attempts, FIELD.error, FIELD.waiting_since)
if not owns_lease(KEYS[3], ARGV[1], ARGV[2]) then return 'done' end
if redis.call('LLEN', KEYS[1]) > 0 and not session.floor then
  schedule(KEYS[3], ARGV[1], session, tonumber(session.last_active), ARGV[4], ARGV[5])
else
  set_due(KEYS[3], ARGV[1], clock_ms())
end
return 'done'
