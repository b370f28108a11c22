-- Tombstones, which a purge leaves in a session's place.
-- Uses: clock

-- True if a tombstone forbids to write to the session. `session` has its state and tombstone_until.
local function refuses_writes(session, allow_reuse)
  return session.state == 'purged' and allow_reuse ~= '1' and tonumber(session.tombstone_until) > clock_ms()
end
