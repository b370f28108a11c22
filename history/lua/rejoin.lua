-- Rejoin a session with its archive, which has messages that Redis lacks: drop the first messages, which the archive has
-- too, and give the others an epoch after those of the archive, as if they had been written while the session slept.
-- Atomic: only if the session is the one that was compared with the archive, and nobody archives or restores it.
-- Uses: clock, due, epoch, kind, memory, number, recheck
-- Reads: epoch, restored_count, state, floor, hold_pending, restore_token, restore_until, last_active, idle,
--   max_age, tombstone_until
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- KEYS[4] hash    tally
-- KEYS[5] zset    quarantine
-- ARGV[1] session id
-- ARGV[2] epoch that was compared
-- ARGV[3] restored count at that time
-- ARGV[4] how many messages there were
-- ARGV[5] how many messages to drop, from the first on
-- ARGV[6] default idle timeout (ms)
-- ARGV[7] default maximum age (ms) or ''
-- Returns 'rejoined' | 'changed' since it was compared | 'busy' a worker has leased it, or a restore is running
local session = read_session(KEYS[2])
local length, dropped = redis.call('LLEN', KEYS[1]), tonumber(ARGV[5])
if session.state == 'purged' or session.epoch ~= ARGV[2] then return 'changed' end
if (session.restored_count or '0') ~= ARGV[3] or length ~= tonumber(ARGV[4]) then return 'changed' end
local now_ms = clock_ms()
-- A worker whose lease was overwritten by activity may still be uploading.
if next_recheck(KEYS[3], ARGV[1], KEYS[2]) > now_ms then return 'busy' end
if session.restore_token and tonumber(session.restore_until or 0) > now_ms then return 'busy' end
allow_at_memory_limit(KEYS[3])
if dropped == length then
  note_left(KEYS[4], KEYS[1])
  redis.call('UNLINK', KEYS[1])
else
  redis.call('LTRIM', KEYS[1], int(dropped), -1)
end
redis.call('HSET', KEYS[2], FIELD.epoch, int(next_epoch(KEYS[4], session.epoch)))
redis.call('HDEL', KEYS[2], FIELD.restored_count, FIELD.archived_count, FIELD.complete, FIELD.known_absent,
  FIELD.restore_token, FIELD.restore_until, FIELD.state, FIELD.attempt, FIELD.attempts, FIELD.error,
  FIELD.waiting_since)
redis.call('ZREM', KEYS[5], ARGV[1])
session = read_session(KEYS[2])
schedule(KEYS[3], ARGV[1], session, length - dropped, now_ms, ARGV[6], ARGV[7])
return 'rejoined'
