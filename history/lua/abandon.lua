-- Give up a restore and leave the session as it was before.
-- Atomic: a session that the restore had created goes only while it is still empty.
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- KEYS[4] list    staging
-- ARGV[1] session
-- ARGV[2] token of the restore
-- ARGV[3] default idle timeout (ms)
-- ARGV[4] default maximum age (ms) or ''
-- Returns 1 | 0 the token is gone
redis.call('UNLINK', KEYS[4])
local meta = redis.call('HMGET', KEYS[2], 'restoring', 'epoch', 'active', 'idle', 'max_age', 'state', 'holding')
if meta[1] ~= ARGV[2] then return 0 end
if redis.call('LLEN', KEYS[1]) == 0 and not meta[7] then -- a hold that came meanwhile is still to be seen to
  redis.call('UNLINK', KEYS[2])
  redis.call('ZREM', KEYS[3], ARGV[1])
else
  redis.call('HDEL', KEYS[2], 'restoring', 'restoring_until')
  if meta[7] then
    set_due(KEYS[3], ARGV[1], to_ms(now_us()))
  elseif meta[6] ~= 'quarantined' then
    schedule(KEYS[3], ARGV[1], tonumber(meta[3]), meta[2], meta[4] or ARGV[3], meta[5] or ARGV[4])
  end
end
return 1
