-- Read since when a session has been waiting to fall asleep.
-- KEYS[1] hash    metadata
-- Returns ms | false
return redis.call('HGET', KEYS[1], FIELD.waiting_since)
