-- Give up a restore and leave the session as it was before.
-- Atomic: a session that the restore has created is deleted only if it is still empty.
-- Uses: clock, due
-- Reads: restore_token, restore_until, epoch, last_active, idle, max_age, state, floor, hold_pending, tombstone_until,
--   owner
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- KEYS[4] list    staging
-- ARGV[1] session id
-- ARGV[2] token of the restore
-- ARGV[3] default idle timeout (ms)
-- ARGV[4] default maximum age (ms) or ''
-- Returns 1 | 0 the token is gone
redis.call('UNLINK', KEYS[4])
local session = read_session(KEYS[2])
if session.restore_token ~= ARGV[2] then return 0 end
local length = redis.call('LLEN', KEYS[1])
-- A session in quarantine was there before. A legal hold or an owner that was set meanwhile has yet to get to the archive.
if length == 0 and session.state ~= 'quarantined' and not (session.hold_pending or session.owner) then
  redis.call('UNLINK', KEYS[2])
  redis.call('ZREM', KEYS[3], ARGV[1])
  return 1
end
redis.call('HDEL', KEYS[2], FIELD.restore_token, FIELD.restore_until)
session.restore_until = nil
reschedule(KEYS[3], ARGV[1], session, length, clock_ms(), ARGV[3], ARGV[4])
return 1
