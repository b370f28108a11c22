-- List the sessions of a shard that are nearest to their due moment, due or not, but for those that are leased.
-- KEYS[1] zset    due
-- ARGV[1] how many at most
-- ARGV[2] how many to look at
-- Returns {session, moment (ms), ...}
local nearest = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[2])
local now_ms = to_ms(now_us())
local reply = {}
for index = 1, #nearest, 2 do
  local score = tonumber(nearest[index + 1])
  if #reply < 2 * tonumber(ARGV[1]) and (score <= now_ms or score % 1 == 0) then
    reply[#reply + 1] = nearest[index]
    reply[#reply + 1] = nearest[index + 1]
  end
end
return reply
