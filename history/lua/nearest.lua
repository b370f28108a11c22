-- List the sessions of a shard that are nearest to their due moment, due or not, without those that are leased.
-- Uses: clock, lease
-- KEYS[1] zset    due
-- ARGV[1] how many at most
-- Returns {session id, due moment (ms), ...}
local now_ms, most = clock_ms(), tonumber(ARGV[1])
local reply, from, page = {}, 0, nil
repeat
  page = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '+inf', 'WITHSCORES', 'LIMIT', from, most)
  from = from + most
  for index = 1, #page, 2 do
    local score = page[index + 1]
    if #reply < 2 * most and (tonumber(score) <= now_ms or not is_lease(score)) then
      reply[#reply + 1] = page[index]
      reply[#reply + 1] = score
    end
  end
until #page == 0 or #reply == 2 * most
return reply
