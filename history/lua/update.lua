-- Change a session's expiry, and with it the moment at which the session is due.
-- Atomic: metadata and due moment change together, and a worker that has leased the session loses the lease.
-- Uses: clock, due, owner
-- Reads: epoch, last_active, state, floor, complete, known_absent, idle, max_age, hold_pending, restore_until,
--   tombstone_until, owner
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- ARGV[1] session id
-- ARGV[2] idle timeout (ms), '' to keep it, '-' for the default
-- ARGV[3] maximum age (ms) likewise
-- ARGV[4] retention in the archive (ms) likewise
-- ARGV[5] default idle timeout (ms)
-- ARGV[6] default maximum age (ms) or ''
-- ARGV[7] caller
-- Returns {'updated'} | {'absent'} not in Redis, asleep, or purged | {'owner'} another owner's session | {'unowned'}
local session = read_session(KEYS[2])
local refused = refused_caller(session.owner, ARGV[7], KEYS[1])
if refused then return refused end
if not session.epoch or session.state == 'purged' or session.known_absent then return {'absent'} end
local count = redis.call('LLEN', KEYS[1])
-- Asleep, though a restore that is running or a legal hold needs its metadata: the archive alone knows its expiry.
if count == 0 and not session.complete then return {'absent'} end
for index, field in ipairs({FIELD.idle, FIELD.max_age, FIELD.retention}) do
  local value = ARGV[index + 1]
  if value == '-' then
    redis.call('HDEL', KEYS[2], field)
  elseif value ~= '' then
    redis.call('HSET', KEYS[2], field, value)
  end
end
reschedule(KEYS[3], ARGV[1], read_session(KEYS[2]), count, clock_ms(), ARGV[5], ARGV[6])
return {'updated'}
