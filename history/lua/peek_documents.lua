-- Look at a page of the documents in which another library has the messages of a session, oldest first.
-- Atomic: the page is from one moment. For a server of one node: the documents are in any slot.
-- Uses: number
-- KEYS[1...] document    messages
-- ARGV[1] page size (bytes): the page ends with the message that reaches it
-- ARGV[2] the most bytes of a message that may be taken
-- Returns {the longest remaining TTL (ms), -1 for none, message, or '' if it is gone...}
--   | {'large', index of a message that has too many bytes}
local reply, size, ttl_ms = {'-2'}, 0, -2
for index = 1, #KEYS do
  local found = redis.pcall('JSON.GET', KEYS[index])
  local message = type(found) == 'string' and found or ''
  if #message > tonumber(ARGV[2]) then return {'large', int(index - 1)} end
  if message ~= '' and ttl_ms ~= -1 then
    local left = redis.call('PTTL', KEYS[index])
    ttl_ms = left == -1 and -1 or math.max(ttl_ms, left)
  end
  reply[#reply + 1] = message
  size = size + #message
  if size >= tonumber(ARGV[1]) then break end
end
reply[1] = int(ttl_ms)
return reply
