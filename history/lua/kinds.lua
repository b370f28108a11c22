-- Read how many sessions of a shard have come with messages and have left, by kind.
-- KEYS[1] hash    tally
-- Returns {chats that came, chats that left, threads that came, threads that left}, each a number as text or false
return redis.call('HMGET', KEYS[1], 'chats', 'chats_left', 'threads', 'threads_left')
