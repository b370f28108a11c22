-- Take a session out of quarantine: it is due now, and its failed attempts are forgotten.
-- Atomic: the session is always in one of the two indexes.
-- Uses: clock, due
-- KEYS[1] hash    metadata
-- KEYS[2] zset    due
-- KEYS[3] zset    quarantine
-- ARGV[1] session id
-- Returns 1 | 0 not in quarantine
if not redis.call('ZSCORE', KEYS[3], ARGV[1]) then return 0 end
-- The metadata comes first: if its key is no longer a hash, the script fails before the session leaves the quarantine.
redis.call('HDEL', KEYS[1], FIELD.state, FIELD.attempt, FIELD.attempts, FIELD.error)
redis.call('ZREM', KEYS[3], ARGV[1])
set_due(KEYS[2], ARGV[1], clock_ms())
return 1
