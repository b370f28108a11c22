-- Read what the workers have noted of the archive.
-- KEYS[1] hash    archive health
-- Returns {field, value, ...}
return redis.call('HGETALL', KEYS[1])
