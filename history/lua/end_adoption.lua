-- End an adoption.
-- Atomic: only while it is what the caller knows, so that none ends that somebody has just begun.
-- KEYS[1] hash    adoptions
-- ARGV[1] session
-- ARGV[2] the adoption
-- Returns 1 | 0 it has ended already, or has gone on
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
return redis.call('HDEL', KEYS[1], ARGV[1])
