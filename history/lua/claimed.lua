-- List the sessions of a shard that were claimed and are not asleep: they are leased or postponed.
-- Uses: clock, number
-- KEYS[1] zset    due
-- ARGV[1] how many sessions to look at before this moment, and as many after it
-- Returns {session id...}
local now_ms = int(clock_ms())
local reply = {}
local function gather(found)
  for index = 1, #found, 2 do
    if tonumber(found[index + 1]) % 1 ~= 0 then reply[#reply + 1] = found[index] end
  end
end
-- Postponements and leases end soon or have ended lately.
gather(redis.call('ZREVRANGEBYSCORE', KEYS[1], now_ms, '-inf', 'WITHSCORES', 'LIMIT', 0, ARGV[1]))
gather(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now_ms, '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[1]))
return reply
