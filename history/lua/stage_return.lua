-- Add a page to the messages that will be given back to another library.
-- Atomic: a page that is sent twice is added once.
-- Uses: push
-- KEYS[1] list    the staged messages; it expires, in case they are never given back
-- KEYS[2] list    the other library's messages
-- ARGV[1] how many messages were staged before
-- ARGV[2] lease (ms)
-- ARGV[3] '1' if the newest message is the first element
-- ARGV[4...] messages, oldest first
-- Returns 'staged' | 'exists' the other library has a value there | 'lost' the staged messages have expired
if redis.call('EXISTS', KEYS[2]) == 1 then return 'exists' end
local before, length = tonumber(ARGV[1]), redis.call('LLEN', KEYS[1])
if length == before + #ARGV - 3 then return 'staged' end
if length ~= before then return 'lost' end
push(KEYS[1], ARGV, 4, #ARGV, ARGV[3] == '1' and 'LPUSH')
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 'staged'
