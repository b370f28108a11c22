-- The server's clock, read once a script: two readings would differ before Redis 7.2, and then a session could be last
-- active before its creation. A script may read it, because Redis replicates the writes of a script, not its text (since
-- 5.0).

local read_us

-- Microseconds since 1970; below 2^53, so they are exact in a double.
local function clock_us()
  if not read_us then
    local time = redis.call('TIME')
    read_us = time[1] * 1000000 + time[2]
  end
  return read_us
end

local function to_ms(us) return math.floor(us / 1000) end

-- Milliseconds since 1970.
local function clock_ms() return to_ms(clock_us()) end
