-- Add a page to what is to be given back to another library.
-- Atomic: a page that is sent twice is added once. What is not given back expires.
-- KEYS[1] list    what is to be given back; it expires
-- KEYS[2] list    the other library's messages
-- ARGV[1] how many messages are there already
-- ARGV[2] lease (ms)
-- ARGV[3...] messages in the order of the list
-- Returns 'laid' | 'exists' that library has something | 'lost' what was there has expired
if redis.call('EXISTS', KEYS[2]) == 1 then return 'exists' end
local before, length = tonumber(ARGV[1]), redis.call('LLEN', KEYS[1])
if length == before + #ARGV - 2 then return 'laid' end
if length ~= before then return 'lost' end
push(KEYS[1], ARGV, 3, #ARGV)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 'laid'
