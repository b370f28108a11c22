-- Count the attempts to archive a session since the last one that ended well.
-- KEYS[1] hash    metadata
-- Returns the count
return tonumber(redis.call('HGET', KEYS[1], FIELD.attempts) or 0)
