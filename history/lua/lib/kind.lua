-- The kinds of sessions. A session is a chat or a LangGraph thread; the first byte of an element tells which.
-- The tally counts the sessions whose list has come into Redis, and those whose list has left it, by kind.

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

local function kinds_field(element) return is_record(element) and 'threads' or 'chats' end

-- Count a session whose list has got its first element. A tally of a wrong type must not stop a write halfway.
local function note_came(tally_key, element) redis.pcall('HINCRBY', tally_key, kinds_field(element), 1) end

-- Count a session whose list is about to leave Redis, if it has one.
local function note_left(tally_key, list_key)
  local first = redis.call('LINDEX', list_key, 0)
  if first then redis.call('HINCRBY', tally_key, kinds_field(first) .. '_left', 1) end
end
