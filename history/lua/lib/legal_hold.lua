-- Legal holds of sessions and of owners. A hold is 'since (ms):reason'.

-- The hold of a session, its own or its owner's; false or nil if there is none.
local function legal_hold(holds_key, session_id, owner)
  return redis.call('HGET', holds_key, 's' .. session_id) or (owner and redis.call('HGET', holds_key, 'o' .. owner))
end

-- The same for a session that has or had further owners, owners[first...]. An empty one is no owner.
local function legal_hold_of_any(holds_key, session_id, owner, owners, first)
  local hold = legal_hold(holds_key, session_id, owner)
  for index = first, #owners do hold = hold or redis.call('HGET', holds_key, 'o' .. owners[index]) end
  return hold
end
