-- End the election of listeners for some shards: the next listener that sees due sessions there can send for them.
-- This is not a part of the claim, because a script with a key that may be missing would have to wait while a Cluster
-- moves the slot.
-- Uses: shards
-- KEYS of each shard:
-- KEYS[1] string  a listener was elected
-- Returns for each shard 1 | 0 none was elected, or its error
return each_shard(1, function(KEYS) return redis.call('UNLINK', KEYS[1]) end)
