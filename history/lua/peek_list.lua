-- Look at a page of another library's messages, or of the messages that were taken from it for an adoption.
-- Atomic: the page and the state that it belongs to are from the same moment.
-- Uses: number, page
-- KEYS[1] list    the other library's messages
-- KEYS[2] list    the taken messages, and a mark at the end: 'token:remaining TTL (ms)'
-- ARGV[1] first position, from the oldest message on
-- ARGV[2] '1' if the newest message is the first element
-- ARGV[3] page size (bytes): the page ends with the message that reaches it
-- ARGV[4] page size (messages)
-- ARGV[5] the most bytes of a message that may be taken
-- Returns {mark, or '' if nothing is taken, how many messages, remaining TTL (ms), message...}
--   | {} there is neither list | {type} the other library's value is not a list
--   | {'large', position} a message that is not taken yet has too many bytes; it is not sent
local from, limit = tonumber(ARGV[1]), tonumber(ARGV[3])
local function page(list_key, length, mark, ttl_ms)
  local stop = math.min(length, from + tonumber(ARGV[4]))
  return add_page({mark, int(length), ttl_ms}, list_key, from, stop, limit, ARGV[2] == '1' and length)
end
local taken = redis.call('LLEN', KEYS[2]) - 1
if taken >= 0 then
  local mark = redis.call('LINDEX', KEYS[2], -1)
  return page(KEYS[2], taken, mark, string.match(mark, ':(.*)$'))
end
local found = redis.call('TYPE', KEYS[1]).ok
if found == 'none' then return {} end
if found ~= 'list' then return {found} end
local reply = page(KEYS[1], redis.call('LLEN', KEYS[1]), '', int(redis.call('PTTL', KEYS[1])))
for index = 4, #reply do
  if #reply[index] > tonumber(ARGV[5]) then return {'large', int(from + index - 4)} end
end
return reply
