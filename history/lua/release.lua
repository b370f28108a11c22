-- Give a claimed session back after a failure: due again after a delay, or in quarantine. A tombstone never goes there,
-- because a session in quarantine can be written to.
-- Atomic: only the owner of the lease decides.
-- Uses: clock, due, lease, memory, number, recheck, tally, waiting
-- Reads: state, attempt, waiting_since, floor, recheck_at
-- KEYS[1] hash    metadata
-- KEYS[2] zset    due
-- KEYS[3] zset    quarantine
-- KEYS[4] hash    tally
-- ARGV[1] session id
-- ARGV[2] token
-- ARGV[3] delay (ms), '' for quarantine
-- ARGV[4] token with which an attempt began that shall not count, '' if the attempt counts
-- ARGV[5] the error, '' for none
-- ARGV[6] due score before the claim if the session waits to fall asleep, else ''
-- ARGV[7] the field of the tally that counts how the attempt ended, '' for none
-- Returns 1 | 0 the lease is lost
if not owns_lease(KEYS[2], ARGV[1], ARGV[2]) then return 0 end
allow_at_memory_limit(KEYS[2])
local TOMBSTONE_DELAY_MS = 600000
local session, now_ms = read_session(KEYS[1]), clock_ms()
-- An upload of a failed attempt may still be on its way. Whoever erases before the lease would have ended looks again.
if ARGV[5] ~= '' and session.attempt and not session.floor then
  redis.call('HSET', KEYS[1], FIELD.recheck_at, int(next_recheck(KEYS[2], ARGV[1], KEYS[1], session.recheck_at)))
end
local due_ms = now_ms + (tonumber(ARGV[3]) or TOMBSTONE_DELAY_MS)
if ARGV[3] == '' and session.state ~= 'purged' then
  redis.call('ZADD', KEYS[3], int(now_ms), ARGV[1])
  redis.call('ZREM', KEYS[2], ARGV[1])
  redis.call('HSET', KEYS[1], FIELD.state, 'quarantined')
elseif ARGV[6] == '' then
  set_due(KEYS[2], ARGV[1], due_ms)
else
  redis.call('HSET', KEYS[1], FIELD.waiting_since, waiting_since(session.waiting_since, ARGV[6], now_ms))
  -- One less, because the quarter would put a session that is due at once into the next millisecond.
  set_due(KEYS[2], ARGV[1], due_ms - 1 + POSTPONED)
end
if ARGV[4] ~= '' and session.attempt == ARGV[4] then
  redis.call('HINCRBY', KEYS[1], FIELD.attempts, -1)
end
if ARGV[7] ~= '' then note_count(KEYS[4], ARGV[7]) end
-- The attempt is over. A claim in the same millisecond has the same token and would else be taken for it.
redis.call('HDEL', KEYS[1], FIELD.attempt)
if ARGV[5] ~= '' then redis.call('HSET', KEYS[1], FIELD.error, ARGV[5]) end
return 1
