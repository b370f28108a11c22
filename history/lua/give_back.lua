-- Give a staged list of messages back to another library.
-- Atomic: the other library sees all of the list or nothing, and a list of its own is never replaced.
-- KEYS[1] list    the staged messages
-- KEYS[2] list    the other library's messages
-- ARGV[1] how many messages were staged
-- ARGV[2] TTL (ms), '' for none
-- Returns 'given' | 'exists' the other library has a value there | 'lost' the staged messages have expired
local length = redis.call('LLEN', KEYS[1])
if redis.call('EXISTS', KEYS[2]) == 1 then
  -- If the reply of this same call was lost, the list is there already.
  local given = length == 0 and redis.call('TYPE', KEYS[2]).ok == 'list' and redis.call('LLEN', KEYS[2])
  return given == tonumber(ARGV[1]) and 'given' or 'exists'
end
if length ~= tonumber(ARGV[1]) then return 'lost' end
redis.call('RENAME', KEYS[1], KEYS[2])
if ARGV[2] == '' then redis.call('PERSIST', KEYS[2]) else redis.call('PEXPIRE', KEYS[2], ARGV[2]) end
return 'given'
