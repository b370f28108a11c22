-- List the unfinished adoptions of a shard. They are few, unless processes die during adoptions.
-- KEYS[1] hash    adoptions
-- Returns {session id, adoption, ...}
return redis.call('HGETALL', KEYS[1])
