-- End an adoption.
-- Atomic: only while it is as the caller knows it, so that an adoption that has just begun goes on.
-- KEYS[1] hash    adoptions
-- ARGV[1] session id
-- ARGV[2] the adoption as the caller knows it
-- Returns 1 | 0 it has ended already, or another page was written
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
return redis.call('HDEL', KEYS[1], ARGV[1])
