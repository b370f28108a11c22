-- Put an owner under a legal hold in one shard, or release it: the owner's sessions are neither cleared nor purged.
-- Uses: clock, number
-- KEYS[1] hash    legal holds
-- ARGV[1] owner
-- ARGV[2] the reason, '' to release
-- Returns 1 | 0 there was no hold to release
if ARGV[2] == '' then return redis.call('HDEL', KEYS[1], 'o' .. ARGV[1]) end
redis.call('HSET', KEYS[1], 'o' .. ARGV[1], int(clock_ms()) .. ':' .. ARGV[2])
return 1
