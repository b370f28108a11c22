-- Adding many elements to a list.

-- RPUSH values[first...last], or another command, in batches because Lua's stack limits unpack(). Returns the length of
-- the list, or nil if there is nothing to push.
local function push(list_key, values, first, last, command)
  local length
  for from = first, last, 1000 do
    length = redis.call(command or 'RPUSH', list_key, unpack(values, from, math.min(from + 999, last)))
  end
  return length
end
