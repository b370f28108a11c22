-- Give a whole list of messages back to another library.
-- Atomic: that library sees all of it or nothing, and what it has there is never replaced.
-- KEYS[1] list    what is to be given back
-- KEYS[2] list    the other library's messages
-- ARGV[1] how many messages there are
-- ARGV[2] TTL (ms), '' for none
-- Returns 'given' | 'exists' there is something | 'lost' what was to be given back has expired
local length = redis.call('LLEN', KEYS[1])
if redis.call('EXISTS', KEYS[2]) == 1 then
  -- Where the reply was lost, it was given by the same call before.
  local given = length == 0 and redis.call('TYPE', KEYS[2]).ok == 'list' and redis.call('LLEN', KEYS[2])
  return given == tonumber(ARGV[1]) and 'given' or 'exists'
end
if length ~= tonumber(ARGV[1]) then return 'lost' end
redis.call('RENAME', KEYS[1], KEYS[2])
if ARGV[2] == '' then redis.call('PERSIST', KEYS[2]) else redis.call('PEXPIRE', KEYS[2], ARGV[2]) end
return 'given'
