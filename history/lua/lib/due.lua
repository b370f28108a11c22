-- The due index: for each session the moment (ms) at which the worker must look at it.
-- Uses: clock, lease

-- Set the due moment of a session. If the session is now the first of its shard, publish the moment on the channel with
-- the name of the due key. The message is only a hint, so a user who may not publish can still write.
local function set_due(due_key, session_id, due_ms)
  redis.call('ZADD', due_key, due_ms, session_id)
  if redis.call('ZRANK', due_key, session_id) == 0 then redis.pcall('PUBLISH', due_key, due_ms) end
end

-- The due moment (ms) of a session that has `length` messages: the one place that decides it. nil if the session waits
-- in quarantine for a person; its legal hold does not wait. The defaults are for a session with no expiry of its own.
local function due_at(session, length, now_ms, default_idle, default_max_age)
  if session.state == 'quarantined' and (session.floor or not session.hold_pending) then return nil end
  if session.state == 'purged' then return tonumber(session.tombstone_until or now_ms) end
  -- The worker has work: an erasure, a legal hold, or metadata that was lost.
  if session.floor or session.hold_pending or not (session.epoch and session.last_active) then return now_ms end
  local due_ms = now_ms -- Redis has nothing to keep of a session without messages
  if length > 0 then
    due_ms = session.last_active + (session.idle or default_idle)
    local max_age = session.max_age or default_max_age
    if max_age ~= '' then due_ms = math.min(due_ms, to_ms(session.epoch) + max_age) end
  end
  -- The worker leaves the session alone while a restore is running.
  return math.max(due_ms, tonumber(session.restore_until or 0))
end

-- Set the due moment that `due_at` gives, or take the session out of the due index if there is none.
-- A due moment that only moves further ahead is not published: a listener has planned the earlier one, and then looks at
-- the shard and finds the new one. It has no plan for a session that was overdue or leased.
local function schedule(due_key, session_id, session, length, now_ms, default_idle, default_max_age)
  local due_ms = due_at(session, length, now_ms, default_idle, default_max_age)
  if not due_ms then return redis.call('ZREM', due_key, session_id) end
  local before = tonumber(redis.call('ZSCORE', due_key, session_id) or 0)
  if before > now_ms and before <= due_ms and not is_lease(before) then
    redis.call('ZADD', due_key, due_ms, session_id)
  else
    set_due(due_key, session_id, due_ms)
  end
end

-- The same after activity or a change of the expiry. A session whose archive has yet to be erased, or whose legal hold
-- has yet to be applied, keeps its due moment or its lease: such work is neither postponed nor interrupted.
local function reschedule(due_key, session_id, session, length, now_ms, default_idle, default_max_age)
  if session.floor or session.hold_pending then return end
  schedule(due_key, session_id, session, length, now_ms, default_idle, default_max_age)
end
