-- Count the sessions that an owner has in some shards.
-- Uses: shards
-- KEYS of each shard:
-- KEYS[1] set     the owner's sessions
-- Returns for each shard how many, or its error
return each_shard(1, function(KEYS) return redis.call('SCARD', KEYS[1]) end)
