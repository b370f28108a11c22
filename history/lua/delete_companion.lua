-- Delete a key that another library keeps beside the messages of a session, after their adoption.
-- Atomic: a key of another type is another program's, and stays.
-- KEYS[1] any     the key
-- ARGV[1] the type that the library gives it
-- Returns 1 | 0 there is none, or it is of another type
if redis.call('TYPE', KEYS[1]).ok ~= ARGV[1] then return 0 end
return redis.call('UNLINK', KEYS[1])
