-- Take a session out of quarantine: due now, its attempts forgotten.
-- KEYS[1] hash    metadata
-- KEYS[2] zset    due
-- KEYS[3] zset    quarantine
-- ARGV[1] session
-- Returns 1 | 0 not in quarantine
if not redis.call('ZSCORE', KEYS[3], ARGV[1]) then return 0 end
-- The metadata comes first, and fails before the session leaves an index where it is no longer a hash.
redis.call('HDEL', KEYS[1], 'state', 'attempt', 'attempts', 'error')
redis.call('ZREM', KEYS[3], ARGV[1])
set_due(KEYS[2], ARGV[1], to_ms(now_us()))
return 1
