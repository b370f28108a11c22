-- The tally of a shard: how often what has happened since the deployment began. Each script counts what it does itself, so
-- the counts are as exact as the act, whoever does it, and whatever is restarted.
-- Uses: number

local function note_count(tally_key, field, by) redis.call('HINCRBY', tally_key, field, int(by or 1)) end

-- The bytes that keys take in memory, about; 0 if the server does not tell.
local function bytes_of(...)
  local bytes = 0
  for _, key in ipairs({...}) do
    local used = redis.pcall('MEMORY', 'USAGE', key)
    if type(used) == 'number' then bytes = bytes + used end
  end
  return bytes
end
