-- Take another library's messages of a session: rename the list, so that nobody else writes to it or lets it expire.
-- Atomic: only the messages that the caller saw are taken; what the other library adds later makes a new list.
-- Uses: clock, number
-- KEYS[1] list    the other library's messages
-- KEYS[2] list    the taken messages, and a mark at the end: 'token:remaining TTL (ms)'
-- ARGV[1] token; with the moment of the taking it names this list, so that no later list has the same mark
-- ARGV[2] how many messages the caller saw
-- Returns 1 | 0 there are more or fewer messages by now, or a list is taken already
if redis.call('EXISTS', KEYS[2]) == 1 or redis.call('LLEN', KEYS[1]) ~= tonumber(ARGV[2]) then return 0 end
local ttl_ms = redis.call('PTTL', KEYS[1])
redis.call('RENAME', KEYS[1], KEYS[2])
redis.call('PERSIST', KEYS[2])
redis.call('RPUSH', KEYS[2], ARGV[1] .. int(clock_us()) .. ':' .. int(ttl_ms))
return 1
