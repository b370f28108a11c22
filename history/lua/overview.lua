-- Describe a shard.
-- Atomic: all numbers are from the same moment.
-- Uses: clock, lease, number, waiting
-- KEYS[1] zset    due
-- KEYS[2] zset    quarantine
-- KEYS[3] hash    tally
-- Returns {now ms, live, due, in work and postponed (10,000 at most), quarantined,
--   earliest due moment that is past (ms) or '', archived, restored, tombstones}
local now_ms = int(clock_ms())
local due = redis.call('ZCOUNT', KEYS[1], '-inf', now_ms)
local in_work, postponed = 0, 0
local ahead = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now_ms, '+inf', 'WITHSCORES', 'LIMIT', 0, 10000)
for index = 2, #ahead, 2 do
  if is_lease(ahead[index]) then
    in_work = in_work + 1
  elseif is_postponed(ahead[index]) then
    postponed = postponed + 1
  end
end
local oldest = ''
if due > 0 then oldest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2] end
local tally = redis.call('HMGET', KEYS[3], 'archived', 'restored', 'tombstones')
local tombstones = tonumber(tally[3] or 0)
local live = math.max(redis.call('ZCARD', KEYS[1]) - tombstones, 0)
return {now_ms, live, due, in_work, postponed, redis.call('ZCARD', KEYS[2]), oldest, tally[1] or '0', tally[2] or '0',
  int(tombstones)}
