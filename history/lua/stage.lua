-- Add a page to the staging list of a restore, and keep the worker away from the session for another lease.
-- Atomic: a page that is sent twice is staged once.
-- Uses: clock, due, number, push
-- Reads: restore_token, restore_until, epoch, last_active, idle, max_age, state, floor, hold_pending, tombstone_until
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- KEYS[4] list    staging; it expires, because the archive still has these messages
-- ARGV[1] session id
-- ARGV[2] token of the restore
-- ARGV[3] lease (ms)
-- ARGV[4] how many messages were staged before
-- ARGV[5] default idle timeout (ms)
-- ARGV[6] default maximum age (ms) or ''
-- ARGV[7...] messages, JSON bytes
-- Returns 'staged' | 'superseded' the token is gone | 'lost' the staging list has another length than expected
local session = read_session(KEYS[2])
if session.restore_token ~= ARGV[2] then return 'superseded' end
local before, length = tonumber(ARGV[4]), redis.call('LLEN', KEYS[4])
if length == before then
  push(KEYS[4], ARGV, 7, #ARGV)
elseif length ~= before + #ARGV - 6 then
  return 'lost'
end
redis.call('PEXPIRE', KEYS[4], int(2 * tonumber(ARGV[3])))
local now_ms = clock_ms()
session.restore_until = int(now_ms + tonumber(ARGV[3]))
redis.call('HSET', KEYS[2], FIELD.restore_until, session.restore_until)
reschedule(KEYS[3], ARGV[1], session, redis.call('LLEN', KEYS[1]), now_ms, ARGV[5], ARGV[6])
return 'staged'
