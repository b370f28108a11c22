-- Legal holds of sessions and of owners. A hold is 'since (ms):reason'; beside it stands who has set it, if that was said.
-- A release is noted too, as a moment (ms): objects in the archive note the holds that they are under, and only a release
-- that Redis knows may take a noted hold away. Without it, Redis has forgotten the hold.
-- Uses: number

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

-- Note who has set the hold of a field, 's<session>' or 'o<owner>'; '' if nobody said.
local function note_setter(holds_key, field, by)
  if by == '' then redis.call('HDEL', holds_key, 'b' .. field) else redis.call('HSET', holds_key, 'b' .. field, by) end
end

-- The field that has the last release of the hold of a 'session' or an 'owner'.
local RELEASE = {session = 'S', owner = 'O'}

-- Note that a hold was released. The release is never before the hold's own moment, even if the clock was set back.
local function note_release(holds_key, kind, id, since_ms, now_ms)
  redis.call('HSET', holds_key, RELEASE[kind] .. id, int(math.max(tonumber(since_ms) or 0, now_ms)))
end
