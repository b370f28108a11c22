-- Change a session's expiry, and with it the moment at which the session is due.
-- Atomic: metadata and due moment change together, and a worker that has leased the session loses the lease.
-- Uses: due
-- Reads: epoch, last_active, state, floor, known_absent, idle, max_age
-- KEYS[1] hash    metadata
-- KEYS[2] zset    due
-- ARGV[1] session id
-- ARGV[2] idle timeout (ms), '' to keep it, '-' for the default
-- ARGV[3] maximum age (ms) likewise
-- ARGV[4] retention in the archive (ms) likewise
-- ARGV[5] default idle timeout (ms)
-- ARGV[6] default maximum age (ms) or ''
-- Returns 1 | 0 not in Redis, or purged
local session = read_session(KEYS[1])
if not session.epoch or session.state == 'purged' or session.known_absent then return 0 end
for index, field in ipairs({FIELD.idle, FIELD.max_age, FIELD.retention}) do
  local value = ARGV[index + 1]
  if value == '-' then
    redis.call('HDEL', KEYS[1], field)
  elseif value ~= '' then
    redis.call('HSET', KEYS[1], field, value)
  end
end
if session.state ~= 'quarantined' and not session.floor then
  schedule(KEYS[2], ARGV[1], read_session(KEYS[1]), tonumber(session.last_active), ARGV[5], ARGV[6])
end
return 1
