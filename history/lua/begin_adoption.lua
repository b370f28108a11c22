-- Begin the adoption of a session, unless one is running. At the memory limit too: adopted, it can be archived.
-- Atomic: of those who begin at the same time all get the same adoption, and go on with it together.
-- KEYS[1] hash    adoptions
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- ARGV[1] session
-- ARGV[2] the adoption, but for the moment of its beginning
-- ARGV[3] owner or ''
-- ARGV[4] '1' to begin anew where a purge has left a tombstone
-- Returns {'running', the adoption: 'beginning (ms):' and what was given} | {'owner'} another owner's session | {'purged'}
local meta = redis.call('HMGET', KEYS[2], 'owner', 'state', 'until')
if is_buried(meta[2], meta[3], ARGV[4]) then return {'purged'} end
if meta[1] and ARGV[3] ~= '' and meta[1] ~= ARGV[3] then return {'owner'} end
allow_at_memory_limit(KEYS[3])
redis.call('HSETNX', KEYS[1], ARGV[1], int(to_ms(now_us())) .. ':' .. ARGV[2])
return {'running', redis.call('HGET', KEYS[1], ARGV[1])}
