-- Count the legal holds of some shards.
-- Uses: shards
-- KEYS of each shard:
-- KEYS[1] hash    legal holds
-- Returns for each shard {of sessions, of owners}, or its error
return each_shard(1, function(KEYS)
  local of_sessions, of_owners = 0, 0
  for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    local kind = string.sub(field, 1, 1)
    if kind == 's' then of_sessions = of_sessions + 1 elseif kind == 'o' then of_owners = of_owners + 1 end
  end
  return {of_sessions, of_owners}
end)
