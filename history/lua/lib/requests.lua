-- Recent requests: the ids of the requests of the last minute, 64 at most, so that a request that is sent twice is done
-- once. redis-py sends a request again if it has lost the reply.
-- Each one has 10 bytes: the request's id (8 bytes) and its moment, in steps of 4 s modulo 65536 (2 bytes). Six of them
-- fit into 64 bytes, the longest value that Redis packs into a small hash (hash-max-listpack-value).
local RETRY_WINDOW_S = 60

local function is_recent(requests, request)
  return requests and string.find(requests, request, 1, true)
end

-- `requests` with one more, without those that are too old.
local function with_request(requests, request, now_ms)
  local now = math.floor(now_ms / 4000) % 65536
  local kept = string.sub(requests or '', -10 * 63)
  while #kept >= 10 do
    local high, low = string.byte(kept, 9, 10)
    -- A moment in the next 36 hours means that the clock was set back since.
    local age_s = ((now - 256 * high - low + 32768) % 65536 - 32768) * 4
    if age_s <= RETRY_WINDOW_S then break end
    kept = string.sub(kept, 11)
  end
  return kept .. request .. string.char(math.floor(now / 256), now % 256)
end
