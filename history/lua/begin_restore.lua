-- Begin a restore: leave its token in the metadata. A session that is not in Redis gets a new epoch.
-- Atomic: only the newest token can finish, and a worker that is archiving the session can't delete it.
-- Uses: clock, due, epoch, memory, number, owner
-- Reads: epoch, complete, state, restore_token, restore_until, last_active, idle, max_age, floor, hold_pending,
--   tombstone_until, owner
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- KEYS[4] hash    tally
-- KEYS[5] string  recent requests, kept from before the session left Redis
-- ARGV[1] session id
-- ARGV[2] token of this restore: the same each time that the same restore is sent
-- ARGV[3] lease (ms): how long the worker leaves the session alone unless the restore goes on
-- ARGV[4] '1' to refuse while another restore is running
-- ARGV[5] default idle timeout (ms)
-- ARGV[6] default maximum age (ms) or ''
-- ARGV[7] caller
-- Returns {'begun', epoch, length of the list, now ms} | {'complete'} no part is in the archive alone | {'running'}
--   | {'purged'} | {'damaged'} the metadata was lost, so nothing tells which messages are of which epoch
--   | {'owner'} another owner's session | {'unowned'}
local session = read_session(KEYS[2])
if session.state == 'purged' then return {'purged'} end
local refused = refused_caller(session.owner, ARGV[7], KEYS[1])
if refused then return refused end
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
session.restore_until = lease_end_ms
if not session.epoch then
  session.epoch, session.last_active = int(next_epoch(KEYS[4])), int(now_ms)
  redis.call('HSET', KEYS[2], FIELD.epoch, session.epoch, FIELD.last_active, session.last_active)
  local requests = redis.call('GET', KEYS[5])
  if requests then redis.call('HSET', KEYS[2], FIELD.recent_requests, requests) end
end
reschedule(KEYS[3], ARGV[1], session, length, now_ms, ARGV[5], ARGV[6])
return {'begun', session.epoch, int(length), int(now_ms)}
