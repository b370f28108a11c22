-- Drop a claimed session from Redis, archived or not. Its part in the archive stays and can be restored.
-- Atomic: only the owner of the lease can drop it, so no worker is archiving it at the same time.
-- Uses: clock, epoch, kind, lease, legal_hold, memory, number, tally
-- Reads: epoch, owner, last_active, floor, attempt
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- KEYS[4] hash    tally
-- KEYS[5] hash    legal holds
-- KEYS[6] hash    index of a thread's records
-- KEYS[7] set     the owner's sessions; present only with an owner
-- ARGV[1] session id
-- ARGV[2] token
-- ARGV[3] how long (ms) the session must have been idle, '' for any time
-- ARGV[4] epoch that the caller saw
-- ARGV[5] owner that the caller saw, or ''
-- Returns {'dropped', messages} | {'held', hold} | {'active'} used too recently
--   | {'changed'} the lease is lost, an erasure is pending, it has got an owner, or a worker may still be uploading
local session = read_session(KEYS[2])
if not owns_lease(KEYS[3], ARGV[1], ARGV[2]) then return {'changed'} end
if session.epoch ~= ARGV[4] or session.floor or (session.owner or '') ~= ARGV[5] then return {'changed'} end
-- A worker whose lease was overwritten by activity may still be uploading.
local now_ms = clock_ms()
if session.attempt and tonumber(session.attempt) > now_ms then return {'changed'} end
local hold = legal_hold(KEYS[5], ARGV[1], session.owner)
if hold then return {'held', hold} end
if ARGV[3] ~= '' and tonumber(session.last_active) > now_ms - tonumber(ARGV[3]) then return {'active'} end
local length = redis.call('LLEN', KEYS[1])
allow_at_memory_limit(KEYS[3])
remember_epoch(KEYS[4], session.epoch)
if KEYS[7] then redis.call('SREM', KEYS[7], ARGV[1]) end
note_left(KEYS[4], KEYS[1])
redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[6])
redis.call('ZREM', KEYS[3], ARGV[1])
note_count(KEYS[4], 'purged')
return {'dropped', int(length)}
