-- Put a session under a legal hold or release it. The session is due then, and the worker updates its objects in the
-- archive.
-- Atomic: a clear or a purge either comes before the hold or is refused.
-- Uses: clock, due, epoch, number
-- Reads: epoch, state, last_active, idle, max_age, floor, hold_pending, restore_until, tombstone_until
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- KEYS[4] hash    tally
-- KEYS[5] hash    legal holds
-- ARGV[1] session id
-- ARGV[2] 'set' | 'release' | 'owner' the hold of its owner was set or released
-- ARGV[3] the reason of a hold that is set
-- Returns 'noted' | 'none' there was no hold to release | 'purged'
local session = read_session(KEYS[2])
if session.state == 'purged' then return 'purged' end
local now_ms = clock_ms()
if ARGV[2] == 'set' then
  redis.call('HSET', KEYS[5], 's' .. ARGV[1], int(now_ms) .. ':' .. ARGV[3])
elseif ARGV[2] == 'release' and redis.call('HDEL', KEYS[5], 's' .. ARGV[1]) == 0 then
  return 'none'
end
local length = redis.call('LLEN', KEYS[1])
if not session.epoch and length == 0 then
  redis.call('HSET', KEYS[2], FIELD.epoch, int(next_epoch(KEYS[4])), FIELD.last_active, int(now_ms))
end
session.hold_pending = '1'
redis.call('HSET', KEYS[2], FIELD.hold_pending, session.hold_pending)
redis.call('HDEL', KEYS[2], FIELD.known_absent) -- `info` must describe a session that is under a hold
-- The failed attempts of a session in quarantine were attempts to archive it.
if session.state == 'quarantined' then redis.call('HDEL', KEYS[2], FIELD.attempts) end
schedule(KEYS[3], ARGV[1], session, length, now_ms)
return 'noted'
