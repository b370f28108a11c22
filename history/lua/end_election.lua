-- The listeners that were elected for some shards have been heard: the next ones to see something due can send again.
-- Not a part of the claim: a script of two keys would have to wait while a Cluster moves the slot.
-- KEYS of each shard:
-- KEYS[1] string  a listener was elected
-- Returns of each shard 1 | 0 none was, or its error
return each_shard(1, function(KEYS) return redis.call('UNLINK', KEYS[1]) end)
