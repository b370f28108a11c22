-- Lease the sessions of some shards that have been due longest. The lease is the due score itself.
-- Atomic: a session is leased by one caller at a time.
-- Uses: clock, lease, memory, number, shards, tally
-- KEYS of each shard:
-- KEYS[1] zset    due
-- KEYS[2] hash    tally
-- ARGV[1] how many sessions of a shard at most
-- ARGV[2] lease (ms)
-- Returns for each shard {session id, due score until now, ...}, or its error; and then the token
local now_ms = clock_ms()
local token = lease_token(now_ms, ARGV[2])
local is_allowed = false

local claimed = each_shard(2, function(KEYS)
  if not is_allowed then allow_at_memory_limit(KEYS[1]) end
  is_allowed = true
  local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', int(now_ms), 'WITHSCORES', 'LIMIT', 0, ARGV[1])
  if #due == 0 then return due end
  local scores, ended = {}, 0
  for index = 1, #due, 2 do
    scores[index], scores[index + 1] = token, due[index]
    if is_lease(due[index + 1]) then ended = ended + 1 end
  end
  for from = 1, #scores, 2000 do
    redis.call('ZADD', KEYS[1], 'XX', unpack(scores, from, math.min(from + 1999, #scores)))
  end
  note_count(KEYS[2], 'claims', #due / 2)
  if ended > 0 then note_count(KEYS[2], 'leases_ended', ended) end
  return due
end)
if not claimed.err then claimed[#claimed + 1] = token end
return claimed
