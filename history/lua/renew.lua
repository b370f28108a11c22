-- Prolong a lease.
-- Atomic: a lease that was lost stays lost, and a renewal that is sent twice is done once.
-- Uses: lease, memory
-- KEYS[1] zset    due
-- ARGV[1] session id
-- ARGV[2] token
-- ARGV[3] new token
-- Returns 1 | 0 the lease is lost
if owns_lease(KEYS[1], ARGV[1], ARGV[3]) then return 1 end
if not owns_lease(KEYS[1], ARGV[1], ARGV[2]) then return 0 end
allow_at_memory_limit(KEYS[1])
redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
return 1
