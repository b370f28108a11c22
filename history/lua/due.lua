-- Count the due sessions of some shards.
-- Uses: clock, number, shards
-- KEYS of each shard:
-- KEYS[1] zset    due
-- Returns for each shard the count, or its error
local now_ms = int(clock_ms())
return each_shard(1, function(KEYS) return redis.call('ZCOUNT', KEYS[1], '-inf', now_ms) end)
