-- Note that the archive below a cleared session's floor is erased, so that the session can be archived again.
-- A tombstone goes when its time is over.
-- Atomic: a later clear keeps its own floor.
-- Uses: clock, due, epoch, lease, legal_hold, number
-- Reads: epoch, floor, last_active, idle, max_age, recheck_at, state, tombstone_until, hold_pending, restore_until
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- KEYS[4] hash    tally
-- KEYS[5] hash    legal holds
-- ARGV[1] session id
-- ARGV[2] token
-- ARGV[3] the floor below which the archive was erased
-- ARGV[4] default idle timeout (ms)
-- ARGV[5] default maximum age (ms) or ''
-- ARGV[6] how long (ms) to wait before the archive is searched once more, '' if that is not needed
-- Returns 'done' | 'recheck' due again at the recheck, or when the tombstone ends | 'other' another floor, or no session
local session = read_session(KEYS[2])
if session.floor ~= ARGV[3] then return 'other' end
local now_ms = clock_ms()
local is_owned = owns_lease(KEYS[3], ARGV[1], ARGV[2])
-- The attempt has not failed, so attempts before the recheck must never add up to a quarantine.
redis.call('HDEL', KEYS[2], FIELD.attempt, FIELD.attempts, FIELD.error, FIELD.waiting_since)
if ARGV[6] ~= '' then
  session.recheck_at = int(math.max(tonumber(session.recheck_at or 0), now_ms + tonumber(ARGV[6])))
  redis.call('HSET', KEYS[2], FIELD.recheck_at, session.recheck_at)
end
local wait_until_ms = math.max(tonumber(session.recheck_at or 0), tonumber(session.tombstone_until or 0))
if wait_until_ms > now_ms then
  if is_owned then set_due(KEYS[3], ARGV[1], wait_until_ms) end
  return 'recheck'
end
if session.state == 'purged' then
  remember_epoch(KEYS[4], session.epoch)
  redis.call('HINCRBY', KEYS[4], 'tombstones', -1)
  redis.call('UNLINK', KEYS[2])
  redis.call('HDEL', KEYS[5], RELEASE.session .. ARGV[1])
  redis.call('ZREM', KEYS[3], ARGV[1])
  return 'done'
end
redis.call('HDEL', KEYS[2], FIELD.floor, FIELD.recheck_at, FIELD.unproven_caller)
session.floor = nil
if is_owned then schedule(KEYS[3], ARGV[1], session, redis.call('LLEN', KEYS[1]), now_ms, ARGV[4], ARGV[5]) end
return 'done'
