-- Make a session due now.
-- Atomic: a session that leaves Redis at the same time is not put back into the due index.
-- Uses: clock, due, memory
-- KEYS[1] zset    due
-- ARGV[1] session id
-- Returns 1 | 0 not in Redis, or in quarantine
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
allow_at_memory_limit(KEYS[1])
set_due(KEYS[1], ARGV[1], clock_ms())
return 1
