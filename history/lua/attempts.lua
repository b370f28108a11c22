-- How many attempts to archive a session have not ended well.
-- Atomic as each script is.
-- KEYS[1] hash    metadata
-- Returns the count
return tonumber(redis.call('HGET', KEYS[1], 'attempts') or 0)
