-- Add a page to the staging list of a restore, and keep the worker away from the session for another lease.
-- Atomic: a page that is sent twice is staged once.
-- Uses: clock, due, number, push
-- Reads: restore_token, state
-- KEYS[1] hash    metadata
-- KEYS[2] zset    due
-- KEYS[3] list    staging; it expires, because the archive still has these messages
-- ARGV[1] session id
-- ARGV[2] token of the restore
-- ARGV[3] lease (ms)
-- ARGV[4] how many messages were staged before
-- ARGV[5...] messages, JSON bytes
-- Returns 'staged' | 'superseded' the token is gone | 'lost' the staging list has another length than expected
local session = read_session(KEYS[1])
if session.restore_token ~= ARGV[2] then return 'superseded' end
local before, length = tonumber(ARGV[4]), redis.call('LLEN', KEYS[3])
if length == before then
  push(KEYS[3], ARGV, 5, #ARGV)
elseif length ~= before + #ARGV - 4 then
  return 'lost'
end
redis.call('PEXPIRE', KEYS[3], int(2 * tonumber(ARGV[3])))
local lease_end_ms = clock_ms() + tonumber(ARGV[3])
redis.call('HSET', KEYS[1], FIELD.restore_until, int(lease_end_ms))
if session.state ~= 'quarantined' then set_due(KEYS[2], ARGV[1], lease_end_ms) end
return 'staged'
