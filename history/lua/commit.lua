-- Delete a session whose archive is verified, if it is still exactly what was archived; else note how far it is safe.
-- Atomic: this is the compare-and-delete that the promise "verify, then delete" stands on.
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- KEYS[4] hash    tally
-- KEYS[5] string  requests that the session had seen when it left Redis; it expires
-- KEYS[6] set     the owner's sessions; present only with an owner
-- ARGV[1] session
-- ARGV[2] token
-- ARGV[3] epoch that was archived
-- ARGV[4] base at that time
-- ARGV[5] how many leading messages are verified in the archive
-- ARGV[6] token with which the attempt began
-- ARGV[7] default idle timeout (ms)
-- ARGV[8] default maximum age (ms) or ''
-- Returns 'deleted' | 'kept' it has grown or is in use | 'superseded' another epoch or base | 'gone' not in Redis
local meta = redis.call('HMGET', KEYS[2], 'epoch', 'base', 'restoring', 'floor', 'archived', 'active', 'idle', 'max_age',
  'attempt', 'seen', 'holding')
if not meta[1] then return 'gone' end
if meta[1] ~= ARGV[3] or (meta[2] or '0') ~= ARGV[4] then return 'superseded' end
allow_at_memory_limit(KEYS[3])
local count, length = tonumber(ARGV[5]), redis.call('LLEN', KEYS[1])
local held = holds(KEYS[3], ARGV[1], ARGV[2])
if held and length == count and not (meta[3] or meta[4] or meta[11]) then
  -- The keys of others are first, which fail before anything is deleted where they are no longer of their type.
  leave(KEYS[4], meta[1])
  if KEYS[6] then redis.call('SREM', KEYS[6], ARGV[1]) end
  redis.call('UNLINK', KEYS[1], KEYS[2])
  redis.call('ZREM', KEYS[3], ARGV[1])
  if count > 0 then redis.call('HINCRBY', KEYS[4], 'archived', 1) end
  local rest = tonumber(meta[6] or 0) + 1000 * RETRY_WINDOW_S - to_ms(now_us())
  if meta[10] and rest > 0 then redis.call('SET', KEYS[5], meta[10], 'PX', int(rest)) end
  return 'deleted'
end
-- Only a Redis that knows of the attempt has the messages that were counted: a replica that was promoted may lack both.
if meta[9] == ARGV[6] and length >= count then
  redis.call('HSET', KEYS[2], 'archived', int(math.max(tonumber(meta[5] or 0), count)))
  redis.call('HDEL', KEYS[2], 'attempt', 'attempts', 'error')
end
if held then schedule(KEYS[3], ARGV[1], tonumber(meta[6]), meta[1], meta[7] or ARGV[7], meta[8] or ARGV[8]) end
return 'kept'
