-- Give the fence its next token, if its newest token is still the one that the caller has seen.
-- Atomic: of two who move the fence at once, one succeeds.
-- Uses: clock, number
-- KEYS[1] hash    the deployment's configuration
-- ARGV[1] the newest token that was seen, '' for none
-- ARGV[2] the next token
-- ARGV[3] how many tokens to keep
-- Returns 1, or 0 if there is another newest token by now
local tokens, newest = {}, ''
for since, token in string.gmatch(redis.call('HGET', KEYS[1], 'fence') or '', '(%d+):(%x+)') do
  tokens[#tokens + 1], newest = since .. ':' .. token, token
end
if newest == ARGV[2] then return 1 end -- sent again
if newest ~= ARGV[1] then return 0 end
tokens[#tokens + 1] = int(clock_ms()) .. ':' .. ARGV[2]
redis.call('HDEL', KEYS[1], '') -- at its memory limit, Redis lets a script write that begins with a deletion
local kept = math.max(1, #tokens + 1 - tonumber(ARGV[3]))
redis.call('HSET', KEYS[1], 'fence', table.concat(tokens, ' ', kept))
return 1
