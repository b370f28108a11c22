-- Delete a session whose archive is verified, if it is still exactly as it was archived. If it is not, note how much of
-- it is safe in the archive.
-- Atomic: the promise "verify, then delete" stands on this compare-and-delete.
-- Uses: clock, due, epoch, kind, lease, memory, number, requests, tally
-- Reads: epoch, restored_count, restore_token, floor, archived_count, last_active, idle, max_age, attempt,
--   recent_requests, hold_pending, state, restore_until, tombstone_until
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- KEYS[4] hash    tally
-- KEYS[5] string  recent requests, kept after the session leaves Redis; it expires
-- KEYS[6] hash    index of a thread's records
-- KEYS[7] set     the owner's sessions; present only with an owner
-- ARGV[1] session id
-- ARGV[2] token
-- ARGV[3] epoch that was archived
-- ARGV[4] restored count at that time
-- ARGV[5] how many messages, from the first on, are verified in the archive
-- ARGV[6] token with which the attempt began
-- ARGV[7] default idle timeout (ms)
-- ARGV[8] default maximum age (ms) or ''
-- ARGV[9] how many bytes the attempt has sent to the archive
-- Returns 'deleted' | 'kept' it has grown or is in use | 'superseded' another epoch or restored count
--   | 'gone' not in Redis
local session = read_session(KEYS[2])
if not session.epoch then return 'gone' end
if session.epoch ~= ARGV[3] or (session.restored_count or '0') ~= ARGV[4] then return 'superseded' end
allow_at_memory_limit(KEYS[3])
local count, length = tonumber(ARGV[5]), redis.call('LLEN', KEYS[1])

local function note_sent()
  note_count(KEYS[4], 'archived_messages', math.max(count - tonumber(session.archived_count or 0), 0))
  note_count(KEYS[4], 'archived_bytes', tonumber(ARGV[9]))
end

local is_owned = owns_lease(KEYS[3], ARGV[1], ARGV[2])
if is_owned and length == count and not (session.restore_token or session.floor or session.hold_pending) then
  -- The writes to keys of the shard and the owner come first. If one of these keys has a wrong type, the script fails
  -- before it has deleted anything.
  remember_epoch(KEYS[4], session.epoch)
  if KEYS[7] then redis.call('SREM', KEYS[7], ARGV[1]) end
  if count > 0 then
    note_count(KEYS[4], 'archived')
    note_sent()
    note_count(KEYS[4], 'freed_bytes', bytes_of(KEYS[1], KEYS[2], KEYS[6]))
  end
  note_left(KEYS[4], KEYS[1])
  redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[6])
  redis.call('ZREM', KEYS[3], ARGV[1])
  local rest_ms = tonumber(session.last_active or 0) + 1000 * RETRY_WINDOW_S - clock_ms()
  if session.recent_requests and rest_ms > 0 then
    redis.call('SET', KEYS[5], session.recent_requests, 'PX', int(rest_ms))
  end
  return 'deleted'
end
-- A Redis that knows the attempt also has the messages that were counted. A promoted replica may lack both.
if session.attempt == ARGV[6] and length >= count then
  redis.call('HSET', KEYS[2], FIELD.archived_count, int(math.max(tonumber(session.archived_count or 0), count)))
  note_count(KEYS[4], 'kept')
  note_sent()
  redis.call('HDEL', KEYS[2], FIELD.attempt, FIELD.attempts, FIELD.error, FIELD.waiting_since)
end
if is_owned then schedule(KEYS[3], ARGV[1], session, length, clock_ms(), ARGV[7], ARGV[8]) end
return 'kept'
