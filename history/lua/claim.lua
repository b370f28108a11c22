-- Lease the sessions of some shards that have been due longest. The lease is the due score itself.
-- Atomic: a session is leased by one caller at a time.
-- Uses: clock, lease, memory, number, shards, tally
-- KEYS of each shard:
-- KEYS[1] zset    due
-- KEYS[2] hash    tally
-- ARGV[1] how many sessions of a shard at most
-- ARGV[2] lease (ms)
-- Returns for each shard {token, session id, due score until now, ...}, or its error
local now_ms = clock_ms()
local token = lease_token(now_ms, ARGV[2])
return each_shard(2, function(KEYS)
  allow_at_memory_limit(KEYS[1])
  local reply, scores, ended = {token}, {}, 0
  local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', int(now_ms), 'WITHSCORES', 'LIMIT', 0, ARGV[1])
  for index = 1, #due, 2 do
    reply[index + 1], reply[index + 2] = due[index], due[index + 1]
    scores[index], scores[index + 1] = token, due[index]
    if is_lease(due[index + 1]) then ended = ended + 1 end
  end
  for from = 1, #scores, 2000 do
    redis.call('ZADD', KEYS[1], 'XX', unpack(scores, from, math.min(from + 1999, #scores)))
  end
  if #due > 0 then note_count(KEYS[2], 'claims', #due / 2) end
  if ended > 0 then note_count(KEYS[2], 'leases_ended', ended) end
  return reply
end)
