-- Look at a page of what another library has of a session, or of what was taken from it to be adopted.
-- Atomic: the page and what it is a page of are of one moment.
-- KEYS[1] list    the other library's messages
-- KEYS[2] list    what was taken, and a mark at its end: 'token:remaining TTL (ms)'
-- ARGV[1] first position, from the oldest message on
-- ARGV[2] '1' where the newest message is the first element
-- ARGV[3] page size (bytes): the page ends with the message that reaches it
-- ARGV[4] page size (messages)
-- Returns {mark or '' where nothing is taken, how many messages, remaining TTL (ms), message...} | {} nothing is there
--   | {type} what is there is no list
local from, limit = tonumber(ARGV[1]), tonumber(ARGV[3])
local function page(list_key, length, mark, ttl)
  local stop = math.min(length, from + tonumber(ARGV[4]))
  return add_page({mark, int(length), ttl}, list_key, from, stop, limit, ARGV[2] == '1' and length)
end
local taken = redis.call('LLEN', KEYS[2]) - 1
if taken >= 0 then
  local mark = redis.call('LINDEX', KEYS[2], -1)
  return page(KEYS[2], taken, mark, string.match(mark, ':(.*)$'))
end
local found = redis.call('TYPE', KEYS[1]).ok
if found == 'none' then return {} end
if found ~= 'list' then return {found} end
return page(KEYS[1], redis.call('LLEN', KEYS[1]), '', int(redis.call('PTTL', KEYS[1])))
