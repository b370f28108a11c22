-- List the sessions of a shard that are nearest to their due moment, due or not, but for those that are leased.
-- KEYS[1] zset    due
-- ARGV[1] how many at most
-- Returns {session, moment (ms), ...}
local now_ms, most = to_ms(now_us()), tonumber(ARGV[1])
local reply, from, page = {}, 0, nil
repeat
  page = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '+inf', 'WITHSCORES', 'LIMIT', from, most)
  from = from + most
  for index = 1, #page, 2 do
    local score = tonumber(page[index + 1])
    if #reply < 2 * most and (score <= now_ms or score % 1 == 0) then
      reply[#reply + 1] = page[index]
      reply[#reply + 1] = page[index + 1]
    end
  end
until #page == 0 or #reply == 2 * most
return reply
