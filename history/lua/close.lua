-- Make a session due now.
-- KEYS[1] zset    due
-- ARGV[1] session
-- Returns 1 | 0 not in Redis, or in quarantine
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
allow_at_memory_limit(KEYS[1])
set_due(KEYS[1], ARGV[1], to_ms(now_us()))
return 1
