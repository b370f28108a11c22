-- Begin a restore: leave its token in the metadata. A session that is not in Redis gets a new epoch.
-- Atomic: only the newest token can finish, and a worker that is archiving the session can't delete it.
-- Uses: clock, due, epoch, memory, number
-- Reads: epoch, complete, state, restore_token, restore_until
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- KEYS[4] hash    tally
-- KEYS[5] string  recent requests, kept from before the session left Redis
-- ARGV[1] session id
-- ARGV[2] token of this restore: the same each time that the same restore is sent
-- ARGV[3] lease (ms): how long the worker leaves the session alone unless the restore goes on
-- ARGV[4] '1' to refuse while another restore is running
-- Returns {'begun', epoch, length of the list} | {'complete'} no part is in the archive alone | {'running'}
--   | {'purged'} | {'damaged'} the metadata was lost, so nothing tells which messages are of which epoch
local session = read_session(KEYS[2])
if session.state == 'purged' then return {'purged'} end
if session.complete then return {'complete'} end
local length = redis.call('LLEN', KEYS[1])
if length > 0 and not session.epoch then return {'damaged'} end
local now_ms = clock_ms()
-- Reads and writes move the due moment, but they do not keep a restore alive.
local is_running = session.restore_token and tonumber(session.restore_until or 0) > now_ms
if ARGV[4] == '1' and is_running and session.restore_token ~= ARGV[2] then return {'running'} end
local lease_end_ms = now_ms + tonumber(ARGV[3])
allow_at_memory_limit(KEYS[3])
redis.call('HSET', KEYS[2], FIELD.restore_token, ARGV[2], FIELD.restore_until, int(lease_end_ms))
local epoch = session.epoch
if not epoch then
  epoch = int(next_epoch(KEYS[4]))
  redis.call('HSET', KEYS[2], FIELD.epoch, epoch, FIELD.last_active, int(now_ms))
  local requests = redis.call('GET', KEYS[5])
  if requests then redis.call('HSET', KEYS[2], FIELD.recent_requests, requests) end
end
-- A quarantined session waits for a person.
if session.state ~= 'quarantined' then set_due(KEYS[3], ARGV[1], lease_end_ms) end
return {'begun', epoch, int(length)}
