-- Put before every script. Time is Redis TIME; scripts replicate by effects, so reading it is safe (Redis 5.0).

-- Microseconds since 1970 (below 2^53, so exact in a double).
local function now_us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

local function to_ms(us) return math.floor(us / 1000) end

-- A whole number as text: tostring() would switch to an exponent.
local function int(number) return string.format('%.0f', number) end

-- A fresh epoch, above `previous` and above every epoch that has left this shard, whatever the clock did.
local function next_epoch(tally_key, previous)
  local highest = tonumber(redis.call('HGET', tally_key, 'epoch') or 0)
  return math.max(now_us(), highest + 1, (tonumber(previous) or 0) + 1)
end

-- Score a session for activity at `active_ms`: active + idle timeout, or born + maximum age if sooner.
-- An epoch is also the moment (us) at which the session last came into Redis.
local function schedule(due_key, session, active_ms, epoch, idle_ms, max_age_ms)
  local due = active_ms + tonumber(idle_ms)
  if max_age_ms and max_age_ms ~= '' then
    due = math.min(due, to_ms(tonumber(epoch)) + tonumber(max_age_ms))
  end
  redis.call('ZADD', due_key, int(due), session)
end

-- Is the session's score still the token of this claim?
local function holds(due_key, session, token)
  local score = redis.call('ZSCORE', due_key, session)
  return score and tonumber(score) == tonumber(token)
end

-- Has a session seen the request of this id (8 bytes)? It remembers the last four, since redis-py sends a request again
-- when its reply is lost.
local function has_seen(seen, request)
  return seen and string.find(seen, request, 1, true)
end
local function with_seen(seen, request) return string.sub((seen or '') .. request, -32) end

-- RPUSH values[first..last] in batches, since unpack() is limited by Lua's stack.
local function push(list_key, values, first, last)
  for from = first, last, 1000 do
    redis.call('RPUSH', list_key, unpack(values, from, math.min(from + 999, last)))
  end
end
