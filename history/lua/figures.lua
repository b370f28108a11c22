-- Count the sessions of some shards, and read the tallies. The cost does not grow with the number of sessions.
-- Atomic: the numbers of a shard are from the same moment.
-- Uses: clock, lease, number, shards, waiting
-- KEYS of each shard:
-- KEYS[1] zset    due
-- KEYS[2] zset    quarantine
-- KEYS[3] hash    tally
-- ARGV[1] at how many sessions to look that are ahead, for those in work and postponed
-- ARGV[2...] fields of the tally
-- Returns for each shard {now ms, in the index, due, in work, postponed, quarantined, since when (ms) the first one is due
--   or '', a session that is in work or postponed or '', value of each field ...}, or its error
local now_ms = clock_ms()
return each_shard(3, function(KEYS)
  local ahead = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. int(now_ms), '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[1])
  local in_work, postponed, waiting = 0, 0, ''
  for index = 1, #ahead, 2 do
    local leased = is_lease(ahead[index + 1])
    if leased or is_postponed(ahead[index + 1]) then
      if leased then in_work = in_work + 1 else postponed = postponed + 1 end
      if waiting == '' then waiting = ahead[index] end
    end
  end
  local due, first = redis.call('ZCOUNT', KEYS[1], '-inf', int(now_ms)), ''
  if due > 0 then
    local earliest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
    first = earliest[2]
    if tonumber(first) % 1 ~= 0 then waiting = earliest[1] end
  end
  return {int(now_ms), redis.call('ZCARD', KEYS[1]), due, in_work, postponed, redis.call('ZCARD', KEYS[2]), first, waiting,
    unpack(redis.call('HMGET', KEYS[3], unpack(ARGV, 2)))}
end)
