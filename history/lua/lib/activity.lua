-- Reading as activity.
-- Uses: clock, due, memory, number

-- Note that an application has read a session, unless it is a tombstone or has lost its metadata. A session without
-- messages is remembered only for a while, and reads do not prolong that.
local function note_read(metadata_key, due_key, session_id, session, length, default_idle, default_max_age)
  if not session.epoch or session.state == 'purged' then return end
  local now_ms = clock_ms()
  allow_at_memory_limit(due_key)
  redis.call('HSET', metadata_key, FIELD.last_active, int(now_ms),
    FIELD.last_written, session.last_written or session.last_active or int(now_ms))
  session.last_active = now_ms
  if length > 0 then reschedule(due_key, session_id, session, length, now_ms, default_idle, default_max_age) end
end
