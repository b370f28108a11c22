-- Find the legal holds that keep a session: its own, and those of its owners.
-- KEYS[1] hash    legal holds
-- ARGV[1] session id, '' for the holds of the owners alone
-- ARGV[2...] owners
-- Returns of each hold: 's' | 'o', session id | owner, 'since (ms):reason', who has set it, '' if nobody said, the caller,
--   '' if it is not known
local reply = {}
for index = 1, #ARGV do
  local kind = index == 1 and 's' or 'o'
  local value = redis.call('HGET', KEYS[1], kind .. ARGV[index])
  if value then
    for _, part in ipairs({kind, ARGV[index], value}) do reply[#reply + 1] = part end
    reply[#reply + 1] = redis.call('HGET', KEYS[1], 'b' .. kind .. ARGV[index]) or ''
    reply[#reply + 1] = kind == 's' and redis.call('HGET', KEYS[1], 'c' .. ARGV[index]) or ''
  end
end
return reply
