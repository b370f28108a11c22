-- Look at some shards for a listener: how many sessions are due, and when the next one will be.
-- Atomic: if several listeners find the same sessions due, one of them is elected to send for them.
-- Uses: clock, number, shards
-- KEYS of each shard:
-- KEYS[1] zset    due
-- KEYS[2] string  a listener was elected; it expires
-- ARGV[1] how long (ms) the other listeners leave the shard to the elected one
-- Returns for each shard {now ms, due, 1 elected | 0, earliest due moment ahead (ms) or ''}, or its error
local now_ms = int(clock_ms())
return each_shard(2, function(KEYS)
  local due = redis.call('ZCOUNT', KEYS[1], '-inf', now_ms)
  local elected = 0
  -- At its memory limit Redis refuses the election. Then every listener sends, and the claims keep the work apart.
  if due > 0 and redis.pcall('SET', KEYS[2], '1', 'NX', 'PX', ARGV[1]) then elected = 1 end
  local ahead = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now_ms, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  return {now_ms, due, elected, ahead[2] or ''}
end)
