-- The kinds of sessions. A session is a chat or a LangGraph thread; the first byte of an element tells which.

-- True if an element is a checkpoint of a thread.
local function is_checkpoint(element) return string.byte(element) == 1 end

-- True if an element is a record of a thread. All others are a chat's; JSON begins with no such byte.
local function is_record(element)
  local first = string.byte(element)
  return first == 1 or first == 2
end

-- True if a list has elements, and they are of another kind than this one.
local function is_other_kind(list_key, element)
  local first = redis.call('LINDEX', list_key, 0)
  return first and element and is_record(first) ~= is_record(element)
end

-- 'chat' or 'thread', by the first element of a list; '' if it has none.
local function kind_of(list_key)
  local first = redis.call('LINDEX', list_key, 0)
  return first and (is_record(first) and 'thread' or 'chat') or ''
end
