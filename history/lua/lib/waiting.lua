-- Since when a session has been waiting to fall asleep. The moments of postponements and leases do not tell that.
-- The due score of a postponed session ends in a quarter, so that status finds the session. Whatever decides the due
-- moment anew, such as activity, writes a whole number, and the wait is over.
-- Uses: number
local POSTPONED = 0.25

local function is_postponed(score) return tonumber(score) % 1 == POSTPONED end

-- The moment (ms) since which a session waits that had the due score `score` when it was claimed. A whole score is a due
-- moment at which nobody has tried it before. Every other score ended a lease or a postponement, and `noted` counts.
local function waiting_since(noted, score, now_ms)
  if noted and tonumber(score) % 1 ~= 0 then return noted end
  return int(math.min(math.floor(tonumber(score)), now_ms))
end
