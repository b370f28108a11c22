-- Take what another library has of a session, under a name where nobody else writes to it or lets it expire.
-- Atomic: what that library adds later makes a list of its own. Only what was looked at is taken.
-- KEYS[1] list    the other library's messages
-- KEYS[2] list    what is taken
-- ARGV[1] token: with the moment of the taking, so that no second sending gives it to other messages, it names what is taken
-- ARGV[2] how many messages were looked at
-- Returns 1 | 0 there are more or fewer by now, or something is taken already
if redis.call('EXISTS', KEYS[2]) == 1 or redis.call('LLEN', KEYS[1]) ~= tonumber(ARGV[2]) then return 0 end
local ttl = redis.call('PTTL', KEYS[1])
redis.call('RENAME', KEYS[1], KEYS[2])
redis.call('PERSIST', KEYS[2])
redis.call('RPUSH', KEYS[2], ARGV[1] .. int(now_us()) .. ':' .. int(ttl))
return 1
