-- Lease the sessions of some shards that have been due longest. The lease is the due score itself.
-- Atomic: a session is leased by one claimer at a time.
-- KEYS of each shard:
-- KEYS[1] zset    due
-- ARGV[1] how many of a shard at most
-- ARGV[2] lease (ms)
-- Returns of each shard {token, session...}, or its error
local now_ms = to_ms(now_us())
-- The half tells a lease from every other moment.
local token = int(now_ms + tonumber(ARGV[2])) .. '.5'
return each_shard(1, function(KEYS)
  allow_at_memory_limit(KEYS[1])
  local reply, scores = {token}, {}
  for _, session in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', int(now_ms), 'LIMIT', 0, ARGV[1])) do
    reply[#reply + 1] = session
    scores[#scores + 1] = token
    scores[#scores + 1] = session
  end
  for from = 1, #scores, 2000 do
    redis.call('ZADD', KEYS[1], 'XX', unpack(scores, from, math.min(from + 1999, #scores)))
  end
  return reply
end)
