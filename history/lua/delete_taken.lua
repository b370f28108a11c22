-- Delete what was taken from another library, now that it is adopted.
-- Atomic: only what the token names, and not what was taken after it.
-- KEYS[1] list    what was taken, and a mark at its end: 'token:remaining TTL (ms)'
-- ARGV[1] token
-- Returns 1 | 0 it is gone already
local mark = redis.call('LINDEX', KEYS[1], -1)
if not mark or string.match(mark, '^(.*):') ~= ARGV[1] then return 0 end
return redis.call('UNLINK', KEYS[1])
