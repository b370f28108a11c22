-- Legal holds of sessions and of owners. A hold is 'since (ms):reason'; beside it stands who has set it, if that was said.
-- A release is noted too, as a moment (ms): objects in the archive note the holds that they are under, and only a release
-- that Redis knows may take a noted hold away. Without it, Redis has forgotten the hold.
-- Uses: clock, number

-- The hold of a field, 's<session>' or 'o<owner>'; false if there is none. An empty record is a hold that is damaged.
local function hold_at(holds_key, field)
  local hold = redis.call('HGET', holds_key, field)
  return hold == '' and ':' or hold
end

-- The hold of a session, its own or its owner's; false or nil if there is none.
local function legal_hold(holds_key, session_id, owner)
  return hold_at(holds_key, 's' .. session_id) or (owner and hold_at(holds_key, 'o' .. owner))
end

-- The same for a session that has or had further owners, owners[first...]. An empty one is no owner.
local function legal_hold_of_any(holds_key, session_id, owner, owners, first)
  local hold = legal_hold(holds_key, session_id, owner)
  for index = first, #owners do hold = hold or hold_at(holds_key, 'o' .. owners[index]) end
  return hold
end

-- Note who has set the hold of a field, 's<session>' or 'o<owner>'; '' if nobody said.
local function note_setter(holds_key, field, by)
  if by == '' then redis.call('HDEL', holds_key, 'b' .. field) else redis.call('HSET', holds_key, 'b' .. field, by) end
end

-- The field that has the last release of the hold of a 'session' or an 'owner'.
local RELEASE = {session = 'S', owner = 'O'}

-- The last moment (ms) that can be read: the end of the year 9999.
local LAST_MS = 253402300799999

-- A moment (ms) from a record; 0 if it can't be read.
local function moment_of(text)
  local ms = tonumber(text) or 0
  return ms > 0 and ms <= LAST_MS and ms or 0
end

-- True if a hold says since when it stands, as history/calls/session_info.py reads it; else it is damaged.
local function has_moment(hold)
  local digits = string.match(hold, '^(%d+):')
  return digits and #digits <= 15 and moment_of(digits) > 0
end

-- The moment (ms) of a hold that is set now: after the last release of such a hold, even if the clock was set back, so
-- that the objects' note of it never seems to be released.
local function hold_moment(holds_key, kind, id)
  local released_ms = moment_of(redis.call('HGET', holds_key, RELEASE[kind] .. id))
  return math.min(math.max(clock_ms(), released_ms + 1), LAST_MS)
end

-- Note that a hold was released. The release is never before the hold's own moment, even if the clock was set back, and
-- comes after the last one: the objects note a hold whose own moment can't be read as the first after that.
local function note_release(holds_key, kind, id, since_ms, now_ms)
  local field = RELEASE[kind] .. id
  local last_ms = moment_of(redis.call('HGET', holds_key, field))
  redis.call('HSET', holds_key, field, int(math.max(moment_of(since_ms), last_ms + 1, now_ms)))
end
