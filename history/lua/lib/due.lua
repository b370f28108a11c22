-- The due index: for each session the moment (ms) at which the worker must look at it.
-- Uses: clock, lease, number

-- Set the due moment of a session, with the fraction '.25' if it is postponed. If the session is now the first of its shard, publish the moment on the channel with
-- the name of the due key. The message is only a hint, so a user who may not publish can still write.
local function set_due(due_key, session_id, due_ms, fraction)
  due_ms = int(due_ms) .. (fraction or '')
  redis.call('ZADD', due_key, due_ms, session_id)
  if redis.call('ZRANK', due_key, session_id) == 0 then redis.pcall('PUBLISH', due_key, due_ms) end
end

-- The due moment (ms) of a session that was active at `active_ms`: the end of its idle timeout, or of its maximum age
-- if that is sooner. `session` has epoch, idle and max_age; the defaults are for a session with no expiry of its own.
local function due_at(session, active_ms, default_idle, default_max_age)
  local idle_end_ms = active_ms + tonumber(session.idle or default_idle)
  local max_age = session.max_age or default_max_age
  if max_age == '' then return idle_end_ms end
  return math.min(idle_end_ms, to_ms(tonumber(session.epoch)) + tonumber(max_age))
end

-- Set the due moment that `due_at` gives.
-- With `now_ms`, a due moment that only moves further ahead is not published: a listener has planned the earlier one,
-- and then looks at the shard and finds the new one. It has no plan for a session that was overdue or leased.
local function schedule(due_key, session_id, session, active_ms, default_idle, default_max_age, now_ms)
  local due_ms = due_at(session, active_ms, default_idle, default_max_age)
  local before = now_ms and tonumber(redis.call('ZSCORE', due_key, session_id) or 0)
  if before and before > now_ms and before <= due_ms and not is_lease(before) then
    redis.call('ZADD', due_key, int(due_ms), session_id)
  else
    set_due(due_key, session_id, due_ms)
  end
end
