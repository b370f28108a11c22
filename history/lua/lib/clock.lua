-- The server's clock. A script may read it, because Redis replicates the writes of a script, not its text (since 5.0).

-- Microseconds since 1970; below 2^53, so they are exact in a double.
local function clock_us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

local function to_ms(us) return math.floor(us / 1000) end

-- Milliseconds since 1970.
local function clock_ms() return to_ms(clock_us()) end
