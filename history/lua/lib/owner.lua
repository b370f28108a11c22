-- Owners: the one place that decides who may use a session.
-- A caller is '=' and an owner, '' for an application that names none, or '*' for whoever works on all owners' sessions.
-- '+' in place of '=': the owner is given on purpose to what the archive may have of the session without one.

-- The owner that a caller names, or nil.
local function named_owner(caller)
  local first = string.byte(caller)
  if first == 61 or first == 43 then return string.sub(caller, 2) end -- '=' or '+'
end

-- The refusal of a caller, or nil: {'owner'} the session is another owner's, {'unowned'} it is of no owner, and the caller
-- names one. A session without messages that has no owner is nobody's, and the first write decides whose it is.
local function refused_caller(session_owner, caller, messages_key)
  if caller == '*' then return nil end
  local owner = named_owner(caller)
  if session_owner then return session_owner ~= owner and {'owner'} or nil end
  if owner and redis.call('LLEN', messages_key) > 0 then return {'unowned'} end
end

-- True if Redis does not tell whose the session is, and the archive may know it: neither an owner nor a message.
local function may_be_asleep(session_owner, complete, messages_key)
  return not (session_owner or complete) and redis.call('LLEN', messages_key) == 0
end
