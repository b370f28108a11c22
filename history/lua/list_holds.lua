-- One step of a walk over the legal holds that stand in a shard, with HSCAN: none is missed, one may come twice.
-- KEYS[1] hash    legal holds
-- ARGV[1] cursor, '0' to begin
-- ARGV[2] how many fields to look at
-- Returns {next cursor ('0' at the end), then of each hold: 's' | 'o', session id | owner, 'since (ms):reason',
--   who has set it, '' if nobody said, the caller, '' if it is not known}
local step = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local reply = {step[1]}
for index = 1, #step[2], 2 do
  local field = step[2][index]
  local kind, id = string.sub(field, 1, 1), string.sub(field, 2)
  if kind == 's' or kind == 'o' then
    for _, part in ipairs({kind, id, step[2][index + 1]}) do reply[#reply + 1] = part end
    reply[#reply + 1] = redis.call('HGET', KEYS[1], 'b' .. field) or ''
    reply[#reply + 1] = kind == 's' and redis.call('HGET', KEYS[1], 'c' .. id) or ''
  end
end
return reply
