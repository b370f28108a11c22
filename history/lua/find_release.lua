-- Find when the legal hold of a session or of an owner was last released.
-- Uses: legal_hold
-- KEYS[1] hash    legal holds of the shard of the session, or of the owner's own shard
-- ARGV[1] 'session' | 'owner'
-- ARGV[2] session id or owner
-- Returns the moment (ms) or ''
return redis.call('HGET', KEYS[1], RELEASE[ARGV[1]] .. ARGV[2]) or ''
