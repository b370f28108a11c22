-- One step of a walk over the legal holds that stand in a shard, with HSCAN: none is missed, one may come twice.
-- Uses: legal_hold
-- KEYS[1] hash    legal holds
-- ARGV[1] cursor, '0' to begin
-- ARGV[2] how many fields to look at
-- ARGV[3] '1' to give of the sound holds of owners, which stand in each shard, only the owners
-- Returns {next cursor ('0' at the end), {of each hold: 's' | 'o', session id | owner, 'since (ms):reason',
--   who has set it, '' if nobody said, the caller, '' if it is not known}, {owner whose hold is not given, ...}}
local step = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local holds, owners = {}, {}
for index = 1, #step[2], 2 do
  local field = step[2][index]
  local kind, id = string.sub(field, 1, 1), string.sub(field, 2)
  if kind == 'o' and ARGV[3] == '1' and has_moment(step[2][index + 1]) then
    owners[#owners + 1] = id
  elseif kind == 's' or kind == 'o' then
    local beside = redis.call('HMGET', KEYS[1], 'b' .. field, 'c' .. id)
    for _, part in ipairs({kind, id, step[2][index + 1], beside[1] or '', kind == 's' and beside[2] or ''}) do
      holds[#holds + 1] = part
    end
  end
end
return {step[1], holds, owners}
