-- Take the messages of a session that another library has in documents: they become one list, as for other libraries.
-- Atomic: all of the documents that the caller saw are in the list, and gone, or nothing is changed. For a server of one
-- node: the documents are in any slot. Works at the memory limit, because an adopted session can be archived.
-- Uses: clock, number
-- KEYS[1] list    the taken messages, and a mark at the end: 'token:remaining TTL (ms)'
-- KEYS[2...] document    messages, oldest first
-- ARGV[1] token; with the moment of the taking it names this list, so that no later list has the same mark
-- Returns 1 | 0 a document is gone by now, or a list is taken already
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local messages, ttl_ms = {}, -2
for index = 2, #KEYS do
  local message = redis.pcall('JSON.GET', KEYS[index])
  if type(message) ~= 'string' then return 0 end
  messages[index - 1] = message
  local left = redis.call('PTTL', KEYS[index])
  ttl_ms = (left == -1 or ttl_ms == -1) and -1 or math.max(ttl_ms, left)
end
redis.call('UNLINK', KEYS[1]) -- At the memory limit Redis refuses a first write, unless it deletes.
for index, message in ipairs(messages) do
  redis.call('RPUSH', KEYS[1], message)
  redis.call('UNLINK', KEYS[index + 1])
end
redis.call('RPUSH', KEYS[1], ARGV[1] .. int(clock_us()) .. ':' .. int(ttl_ms))
return 1
