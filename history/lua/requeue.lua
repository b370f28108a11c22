-- Take a session out of quarantine: due now, its attempts forgotten.
-- KEYS[1] hash    metadata
-- KEYS[2] zset    due
-- KEYS[3] zset    quarantine
-- ARGV[1] session
-- Returns 1 | 0 not in quarantine
if redis.call('ZREM', KEYS[3], ARGV[1]) == 0 then return 0 end
redis.call('HDEL', KEYS[1], 'state', 'attempt', 'attempts', 'error')
redis.call('ZADD', KEYS[2], int(to_ms(now_us())), ARGV[1])
return 1
