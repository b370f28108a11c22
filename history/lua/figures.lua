-- Add up the figures of some shards. The cost does not grow with the number of sessions.
-- Atomic: the numbers of a shard are from the same moment.
-- Uses: clock, lease, number, shards, waiting
-- KEYS of each shard:
-- KEYS[1] zset    due
-- KEYS[2] zset    quarantine
-- KEYS[3] hash    tally
-- ARGV[1] at how many sessions of a shard to look that are ahead, for those in work and postponed
-- Returns {now ms, in the index, due, in work, postponed, quarantined, since when (ms) the first one is due or '',
--   {a session of a shard that is in work or postponed, ...}, {field of the tallies, sum, ...},
--   {1 | the error of a shard, ...}}, or the error if all shards fail
local now_ms = clock_ms()
local index, due, in_work, postponed, quarantined, first, waiting, sums = 0, 0, 0, 0, 0, nil, {}, {}
local looked = each_shard(3, function(KEYS)
  local size, kept_out = redis.call('ZCARD', KEYS[1]), redis.call('ZCARD', KEYS[2])
  local tally = redis.call('HGETALL', KEYS[3])
  -- Mostly none is due, and the first ones of the index are those ahead. A search by score costs more.
  local ahead, overdue, found = redis.call('ZRANGE', KEYS[1], 0, ARGV[1] - 1, 'WITHSCORES'), 0, nil
  if ahead[2] and tonumber(ahead[2]) <= now_ms then
    first = math.min(first or ahead[2], ahead[2])
    if tonumber(ahead[2]) % 1 ~= 0 then found = ahead[1] end
    overdue = redis.call('ZCOUNT', KEYS[1], '-inf', int(now_ms))
    ahead = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. int(now_ms), '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[1])
  end
  for place = 2, #ahead, 2 do
    local score = tonumber(ahead[place])
    local leased = is_lease(score)
    if leased or is_postponed(score) then
      if leased then in_work = in_work + 1 else postponed = postponed + 1 end
      found = found or ahead[place - 1]
    end
  end
  index, due, quarantined = index + size, due + overdue, quarantined + kept_out
  waiting[#waiting + 1] = found
  for place = 1, #tally, 2 do sums[tally[place]] = (sums[tally[place]] or 0) + tally[place + 1] end
  return 1
end)
if looked.err then return looked end
local counts = {}
for field, sum in pairs(sums) do
  counts[#counts + 1] = field
  counts[#counts + 1] = int(sum)
end
return {int(now_ms), index, due, in_work, postponed, quarantined, first and int(math.floor(first)) or '', waiting, counts,
  looked}
