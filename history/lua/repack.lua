-- Replace messages by the same messages in another stored form, which takes more or less of Redis's memory.
-- Atomic: a message is replaced only where its position still has the very bytes that the caller has read. So one that
-- was written, taken back or cleared meanwhile is not touched, and whatever reads the session sees no difference.
-- Uses: memory
-- KEYS[1] list    messages
-- KEYS[2] zset    due
-- ARGV[1] '1' if no message gets longer, which Redis's memory limit does not forbid
-- ARGV[2...] position, bytes that were read, new bytes; position, ...
-- Returns how many of these positions have the new bytes now
if ARGV[1] == '1' then allow_at_memory_limit(KEYS[2]) end
local count = 0
for place = 2, #ARGV, 3 do
  local position, read, new = ARGV[place], ARGV[place + 1], ARGV[place + 2]
  local found = redis.call('LINDEX', KEYS[1], position)
  if found == read then redis.call('LSET', KEYS[1], position, new) end
  if found == read or found == new then count = count + 1 end
end
return count
