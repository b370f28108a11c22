-- Tell the adoptions of a shard that have begun and not ended: few, unless processes die at them.
-- KEYS[1] hash    adoptions
-- Returns {session, adoption, ...}
return redis.call('HGETALL', KEYS[1])
