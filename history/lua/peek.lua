-- List the sessions of a shard that have been due longest, with their scores as tokens, and lease none.
-- For a Redis that is at its memory limit and refuses the claim's write.
-- KEYS[1] zset    due
-- ARGV[1] how many at most
-- Returns {session, token, ...}
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', int(to_ms(now_us())), 'WITHSCORES', 'LIMIT', 0, ARGV[1])
