-- Add a page to the staging list of a restore, and leave the session alone for another lease.
-- Atomic: a page sent twice is staged once.
-- KEYS[1] hash    metadata
-- KEYS[2] zset    due
-- KEYS[3] list    staging; it expires, since the archive still has what it holds
-- ARGV[1] session
-- ARGV[2] token of the restore
-- ARGV[3] lease (ms)
-- ARGV[4] how many messages were staged before
-- ARGV[5...] messages, JSON bytes
-- Returns 'staged' | 'superseded' the token is gone | 'lost' the staging list is not what it should be
local meta = redis.call('HMGET', KEYS[1], 'restoring', 'state')
if meta[1] ~= ARGV[2] then return 'superseded' end
local before, length = tonumber(ARGV[4]), redis.call('LLEN', KEYS[3])
if length == before then
  push(KEYS[3], ARGV, 5, #ARGV)
elseif length ~= before + #ARGV - 4 then
  return 'lost'
end
redis.call('PEXPIRE', KEYS[3], int(2 * tonumber(ARGV[3])))
local lease_end = to_ms(now_us()) + tonumber(ARGV[3])
redis.call('HSET', KEYS[1], 'restoring_until', int(lease_end))
if meta[2] ~= 'quarantined' then set_due(KEYS[2], ARGV[1], lease_end) end
return 'staged'
