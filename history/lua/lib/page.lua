-- Reading a page of messages.
-- Uses: number

-- Add the messages [from, stop) of a list to a reply, until about `limit` bytes are read. Positions count from the
-- oldest message on. `reversed` is the length of a list that has its newest message first; other lists have none.
-- With `within`, no message is added that goes beyond the limit, even if there is no other.
local function add_page(reply, list_key, from, stop, limit, reversed, within)
  local size = 0
  -- The steps grow: a page of large messages reads only a few too many, and a page of small ones needs few steps.
  local step = 16
  while from < stop and size < limit do
    local upto = math.min(from + step, stop)
    local first = reversed and reversed - upto or from
    local messages = redis.call('LRANGE', list_key, int(first), int(first + upto - from - 1))
    for index = 1, #messages do
      local message = messages[reversed and #messages + 1 - index or index]
      if within and size + #message > limit then return reply end
      reply[#reply + 1] = message
      size = size + #message
      if size >= limit then break end
    end
    from, step = upto, math.min(2 * step, 100)
  end
  return reply
end
