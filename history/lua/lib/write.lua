-- Write messages to a session, and create the session if it is not in Redis. It counts as activity.
-- Uses: clock, due, epoch, kind, number, owner, push, requests, tombstone

-- The reply of append.lua if this element may not be written to the session, else nil.
local function refusal(keys, given, session, element)
  if refuses_writes(session, given.allow_reuse) then return {'purged'} end
  local exists = session.epoch and session.state ~= 'purged' and not session.known_absent
  if exists and given.only_new == '1' then return {'exists'} end
  local refused = refused_caller(session.owner, given.caller, keys.messages)
  if refused then return refused end
  if not given.is_thread and is_other_kind(keys.messages, element) then return {'kind'} end
  if given.only_known == '1' and may_be_asleep(session.owner, session.complete, keys.messages) then return {'unknown'} end
end

local function add(fields, field, value)
  fields[#fields + 1] = field
  fields[#fields + 1] = value
end

-- Give `session` the values that it lacks and the caller has. Returns the fields to store: field, value, ...
local function complete_session(keys, given, session, requests, now_ms)
  session.last_active = now_ms
  local fields = {FIELD.last_active, now_ms}
  if given.request then requests = with_request(requests, given.request, now_ms) end
  if requests then add(fields, FIELD.recent_requests, requests) end
  -- Messages without an epoch have lost their metadata, and nothing tells which of them the archive has. They get no
  -- epoch, so that the worker sees it.
  if not session.epoch and redis.call('LLEN', keys.messages) == 0 then
    session.epoch = int(next_epoch(keys.tally))
    add(fields, FIELD.epoch, session.epoch)
  end
  if not session.idle and given.idle ~= '' then
    session.idle = given.idle
    add(fields, FIELD.idle, given.idle)
  end
  if not session.max_age and given.max_age ~= '' then
    session.max_age = given.max_age
    add(fields, FIELD.max_age, given.max_age)
  end
  if not session.retention and given.retention ~= '' then add(fields, FIELD.retention, given.retention) end
  local owner = named_owner(given.caller)
  if not session.owner and owner then
    add(fields, FIELD.owner, owner)
    if string.sub(given.caller, 1, 1) == '+' then add(fields, FIELD.owner_assigned, '1') end
    redis.call('SADD', keys.owner, given.session_id)
  end
  return fields
end

-- Delete the fields that a write makes untrue. The field `purge` stays, in case the same purge is sent again.
local function delete_outdated_fields(keys, session)
  if session.last_written or session.known_absent then
    redis.call('HDEL', keys.metadata, FIELD.last_written, FIELD.known_absent)
  end
  if session.state == 'purged' then
    redis.call('HDEL', keys.metadata, FIELD.state, FIELD.tombstone_until)
    redis.call('HINCRBY', keys.tally, 'tombstones', -1)
  end
end

-- Write values[first...]. `keys` and `given` are the keys and arguments of append.lua, by name. `session` becomes what it is
-- afterwards. Returns the reply of append.lua.
-- A caller that gives no request id knows by other means what was sent already.
local function write_messages(keys, given, session, values, first)
  local requests = session.recent_requests
  if not (session.epoch or requests) then requests = redis.call('GET', keys.recent_requests) end
  if given.request and is_recent(requests, given.request) then return {'ok', redis.call('LLEN', keys.messages)} end
  local refused = refusal(keys, given, session, values[first])
  if refused then return refused end
  local now_ms = clock_ms()
  local fields = complete_session(keys, given, session, requests, now_ms)
  if given.next_idle and given.next_idle ~= '' then session.idle = given.next_idle end
  if session.state == 'purged' then
    set_due(keys.due, given.session_id, now_ms) -- the tombstone ends here, and its archive is erased now
  else
    reschedule(keys.due, given.session_id, session, 1, now_ms, given.default_idle, given.default_max_age)
  end
  -- Now every key has proved to be of its type, and Redis has not refused the first write at its memory limit: nothing
  -- can stop the turn halfway.
  local length = push(keys.messages, values, first, #values) or redis.call('LLEN', keys.messages)
  if length > 0 and length == #values - first + 1 then note_came(keys.tally, values[first]) end
  redis.call('HSET', keys.metadata, unpack(fields))
  delete_outdated_fields(keys, session)
  return {'ok', length}
end
