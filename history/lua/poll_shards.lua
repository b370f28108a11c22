-- Look at some shards for a listener: what is due, and when the next session will be.
-- Atomic: of the listeners that find the same sessions due, one is elected to send for them.
-- KEYS of each shard:
-- KEYS[1] zset    due
-- KEYS[2] string  a listener was elected; it expires
-- ARGV[1] how long (ms) the others leave the shard to it
-- Returns of each shard {now ms, due, 1 elected | 0, earliest moment ahead (ms) or ''}, or its error
local now_ms = int(to_ms(now_us()))
return each_shard(2, function(KEYS)
  local due = redis.call('ZCOUNT', KEYS[1], '-inf', now_ms)
  local elected = 0
  -- At its memory limit Redis refuses the election; then each listener sends, and claims keep the work apart.
  if due > 0 and redis.pcall('SET', KEYS[2], '1', 'NX', 'PX', ARGV[1]) then elected = 1 end
  local ahead = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now_ms, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  return {now_ms, due, elected, ahead[2] or ''}
end)
