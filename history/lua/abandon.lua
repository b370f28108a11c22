-- Give up a restore and leave the session as it was before.
-- Atomic: a session that the restore has created is deleted only if it is still empty.
-- Uses: clock, due
-- Reads: restore_token, epoch, last_active, idle, max_age, state, hold_pending
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
-- A legal hold that was set during the restore has yet to be applied to the objects in the archive.
if redis.call('LLEN', KEYS[1]) == 0 and not session.hold_pending then
  redis.call('UNLINK', KEYS[2])
  redis.call('ZREM', KEYS[3], ARGV[1])
  return 1
end
redis.call('HDEL', KEYS[2], FIELD.restore_token, FIELD.restore_until)
if session.hold_pending then
  set_due(KEYS[3], ARGV[1], clock_ms())
elseif session.state ~= 'quarantined' then
  schedule(KEYS[3], ARGV[1], session, tonumber(session.last_active), ARGV[3], ARGV[4])
end
return 1
