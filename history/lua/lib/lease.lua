-- Leases. A lease is the due score of a session: the moment (ms) at which the lease ends, plus a half.
-- No other due score ends in a half. The score is also the token that proves who owns the lease.
-- Uses: number

local function is_lease(score) return tonumber(score) % 1 == 0.5 end

local function lease_token(now_ms, lease_ms) return int(now_ms + tonumber(lease_ms)) .. '.5' end

-- True as long as the session's due score is still this token.
local function owns_lease(due_key, session_id, token)
  local score = redis.call('ZSCORE', due_key, session_id)
  return score and tonumber(score) == tonumber(token)
end
