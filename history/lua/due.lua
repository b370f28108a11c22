-- Count the sessions of a shard that are due.
-- KEYS[1] zset    due
-- Returns the count
return redis.call('ZCOUNT', KEYS[1], '-inf', int(to_ms(now_us())))
