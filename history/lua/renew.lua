-- Prolong a lease.
-- Atomic: a lease that was lost stays lost.
-- KEYS[1] zset    due
-- ARGV[1] session
-- ARGV[2] token
-- ARGV[3] lease (ms)
-- Returns the new token | '' the lease is lost
if not holds(KEYS[1], ARGV[1], ARGV[2]) then return '' end
local token = int(to_ms(now_us()) + tonumber(ARGV[3])) .. '.5'
redis.call('ZADD', KEYS[1], token, ARGV[1])
return token
