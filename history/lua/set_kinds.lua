-- Correct how many sessions of a shard have come with messages, after somebody has counted those that are there.
-- Atomic: only if no session has come or left since the caller began to count.
-- Uses: memory, number
-- KEYS[1] hash    tally
-- KEYS[2] zset    due
-- ARGV[1] chats that had come when the caller began
-- ARGV[2] chats that had left
-- ARGV[3] threads that had come
-- ARGV[4] threads that had left
-- ARGV[5] chats that are there
-- ARGV[6] threads that are there
-- Returns 1 | 0 a session has come or left
local now = redis.call('HMGET', KEYS[1], 'chats', 'chats_left', 'threads', 'threads_left')
for place = 1, 4 do
  if (now[place] or '0') ~= ARGV[place] then return 0 end
end
allow_at_memory_limit(KEYS[2])
redis.call('HSET', KEYS[1], 'chats', int(ARGV[2] + ARGV[5]), 'threads', int(ARGV[4] + ARGV[6]))
return 1
