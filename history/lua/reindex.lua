-- Compare a session with its index entry, and repair that: add a missing one, and drop one that has no session.
-- Atomic: a session that comes or goes at the same time keeps or loses its entry with it.
-- Uses: clock, due, number
-- Reads: epoch, last_active, idle, max_age, floor, state, hold_pending, restore_until, tombstone_until
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- KEYS[4] zset    quarantine
-- ARGV[1] session id
-- ARGV[2] default idle timeout (ms)
-- ARGV[3] default maximum age (ms) or ''
-- ARGV[4] '1' to repair, '' to change nothing
-- Returns 'added' | 'dropped' what is, or would be, repaired | 'right' there is nothing to repair
local is_indexed = (redis.call('ZSCORE', KEYS[3], ARGV[1]) or redis.call('ZSCORE', KEYS[4], ARGV[1])) ~= false
local exists = redis.call('EXISTS', KEYS[1], KEYS[2]) > 0
if exists == is_indexed then return 'right' end
if ARGV[4] ~= '1' then return exists and 'added' or 'dropped' end
if not exists then
  redis.call('ZREM', KEYS[3], ARGV[1])
  redis.call('ZREM', KEYS[4], ARGV[1])
  return 'dropped'
end
local session = read_session(KEYS[2])
local now_ms = clock_ms()
if session.state == 'quarantined' then redis.call('ZADD', KEYS[4], int(now_ms), ARGV[1]) end
schedule(KEYS[3], ARGV[1], session, redis.call('LLEN', KEYS[1]), now_ms, ARGV[2], ARGV[3])
return 'added'
