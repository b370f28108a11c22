-- The listener that was elected for a shard has been heard: the next one to see something due can send again.
-- Not a part of the claim: a script of two keys would have to wait while a Cluster moves the slot.
-- KEYS[1] string  a listener was elected
-- Returns 1 | 0 none was
return redis.call('UNLINK', KEYS[1])
