-- Describe a shard.
-- Atomic: all numbers are of one moment.
-- KEYS[1] zset    due
-- KEYS[2] zset    quarantine
-- KEYS[3] hash    tally
-- Returns {now ms, live, due, in work (10,000 at most), quarantined, earliest moment past due (ms) or '', archived, restored,
--   tombstones}
local now_ms = int(to_ms(now_us()))
local due = redis.call('ZCOUNT', KEYS[1], '-inf', now_ms)
local in_work = 0
-- A lease is a score in the future with a half in it: no other moment has one.
local ahead = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now_ms, '+inf', 'WITHSCORES', 'LIMIT', 0, 10000)
for index = 2, #ahead, 2 do
  if tonumber(ahead[index]) % 1 ~= 0 then in_work = in_work + 1 end
end
local oldest = ''
if due > 0 then oldest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2] end
local tally = redis.call('HMGET', KEYS[3], 'archived', 'restored', 'tombstones')
local tombstones = tonumber(tally[3] or 0)
local live = math.max(redis.call('ZCARD', KEYS[1]) - tombstones, 0)
return {now_ms, live, due, in_work, redis.call('ZCARD', KEYS[2]), oldest, tally[1] or '0', tally[2] or '0',
  int(tombstones)}
