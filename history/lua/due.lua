-- Count the sessions of some shards that are due.
-- KEYS of each shard:
-- KEYS[1] zset    due
-- Returns of each shard the count, or its error
local now_ms = int(to_ms(now_us()))
return each_shard(1, function(KEYS) return redis.call('ZCOUNT', KEYS[1], '-inf', now_ms) end)
