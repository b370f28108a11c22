-- Reading a page of messages.

-- The length of a message once it is read: history/compression.py says how Redis has it. The header of a Zstandard frame
-- with one segment tells in how many bytes it has the length of its content, and what is to be added to that number.
local function length_of(message)
  local mark = string.byte(message)
  if not mark or mark <= 0x80 or mark > 0x9F then return #message end
  local header, first, second, third, fourth = string.byte(message, 2, 6)
  local length = 0
  if header == 0x20 then
    length = first or 0
  elseif header == 0x60 then
    length = (first or 0) + 256 * (second or 0) + 256
  elseif header == 0xA0 then
    length = (first or 0) + 256 * ((second or 0) + 256 * ((third or 0) + 256 * (fourth or 0)))
  end
  return math.max(#message, length) -- another program may have written any header
end

-- Add the messages [from, stop) of a list to a reply, until about `limit` bytes are read, as they
-- are without compression. Positions count from the
-- oldest message on. `reversed` is the length of a list that has its newest message first; other lists have none.
-- With `within`, no message is added that goes beyond the limit, even if there is no other.
local function add_page(reply, list_key, from, stop, limit, reversed, within)
  local size, count = 0, #reply
  -- The steps grow: a page of large messages reads only a few too many, and a page of small ones needs few steps.
  local step = 16
  while from < stop and size < limit do
    local upto = math.min(from + step, stop)
    local first = reversed and reversed - upto or from
    local messages = redis.call('LRANGE', list_key, first, first + upto - from - 1)
    for index = 1, #messages do
      local message = messages[reversed and #messages + 1 - index or index]
      local length = length_of(message)
      if within and size + length > limit then return reply end
      count, size = count + 1, size + length
      reply[count] = message
      if size >= limit then break end
    end
    from, step = upto, math.min(2 * step, 100)
  end
  return reply
end
