-- Drop a claimed session from Redis as it is, archived or not; what the archive has of it stays and can be restored.
-- Atomic: only the holder of the lease can, so that no worker is archiving what is dropped.
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- KEYS[4] hash    tally
-- KEYS[5] hash    legal holds
-- KEYS[6] set     the owner's sessions; present only with an owner
-- ARGV[1] session
-- ARGV[2] token
-- ARGV[3] how long (ms) the session must have been idle, '' for any time
-- ARGV[4] epoch that was looked at
-- Returns {'dropped', messages} | {'held', hold} | {'active'} used too lately | {'changed'} the lease is lost, an erasure is pending,
--   or a worker may still be uploading
local meta = redis.call('HMGET', KEYS[2], 'epoch', 'owner', 'active', 'floor', 'attempt')
if not holds(KEYS[3], ARGV[1], ARGV[2]) or meta[1] ~= ARGV[4] or meta[4] then return {'changed'} end
-- A worker whose lease was overwritten by activity may still be uploading.
if meta[5] and tonumber(meta[5]) > to_ms(now_us()) then return {'changed'} end
local hold = legal_hold(KEYS[5], ARGV[1], meta[2])
if hold then return {'held', hold} end
local now = to_ms(now_us())
if ARGV[3] ~= '' and tonumber(meta[3]) > now - tonumber(ARGV[3]) then return {'active'} end
local length = redis.call('LLEN', KEYS[1])
allow_at_memory_limit(KEYS[3])
leave(KEYS[4], meta[1])
if KEYS[6] then redis.call('SREM', KEYS[6], ARGV[1]) end
redis.call('UNLINK', KEYS[1], KEYS[2])
redis.call('ZREM', KEYS[3], ARGV[1])
return {'dropped', int(length)}
