-- Delete the messages that were taken from another library, after their adoption.
-- Atomic: only the list with this token is deleted, not one that was taken later.
-- KEYS[1] list    the taken messages, and a mark at the end: 'token:remaining TTL (ms)'
-- ARGV[1] token
-- Returns 1 | 0 the list is gone already
local mark = redis.call('LINDEX', KEYS[1], -1)
if not mark or string.match(mark, '^(.*):') ~= ARGV[1] then return 0 end
return redis.call('UNLINK', KEYS[1])
