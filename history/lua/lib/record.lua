-- Records: the elements of a LangGraph thread, and the index over them. `history/records/record.py` describes their bytes.
-- The index is derived from the list. Its field '.' names the state that it covers; in any other state it is made anew.
-- The field of a checkpoint -> the positions of the checkpoint's records; 'l' + namespace -> the latest checkpoint of the
-- namespace; 'i' + namespace -> the checkpoint at which a task waits for a person (forgotten when the index is made anew).
-- Uses: kind, number

-- The place of a value that is in the record itself, and the predecessor of a value that has none.
local NOWHERE = 4294967295

local function u16(text, at)
  local high, low = string.byte(text, at, at + 1)
  return 256 * high + low
end

local function u32(text, at)
  local a, b, c, d = string.byte(text, at, at + 3)
  return 16777216 * a + 65536 * b + 256 * c + d
end

-- A record with another position in it.
local function with_position(record, position)
  local low = position % 65536
  local high = (position - low) / 65536
  local four = string.char(math.floor(high / 256), high % 256, math.floor(low / 256), low % 256)
  return string.sub(record, 1, 1) .. four .. string.sub(record, 6)
end

-- The field of a checkpoint. An id in the form of a UUID stands without its dashes: a thread has hundreds of these fields,
-- and Redis's allocator rounds up.
local function checkpoint_field(ns, id)
  local a, b, c, d = string.byte(id, 9), string.byte(id, 14), string.byte(id, 19), string.byte(id, 24)
  if #id == 36 and a == 45 and b == 45 and c == 45 and d == 45 then
    return 'u' .. string.sub(id, 1, 8) .. string.sub(id, 10, 13) .. string.sub(id, 15, 18) .. string.sub(id, 20, 23)
      .. string.sub(id, 25) .. ns
  end
  return 'c' .. #ns .. ':' .. ns .. id
end

-- Add a record to positions (by field) and latest ids (by field).
local function add_to_index(positions, latest, record, position)
  local ns_length, id_length = u16(record, 6), u16(record, 8)
  local ns = string.sub(record, 10, 9 + ns_length)
  local id = string.sub(record, 10 + ns_length, 9 + ns_length + id_length)
  local field = checkpoint_field(ns, id)
  positions[field] = (positions[field] or '') .. int(position) .. ' '
  if is_checkpoint(record) and id > (latest['l' .. ns] or '') then latest['l' .. ns] = id end
end

-- Make the index of a list anew; false if the list has an element that is no record.
local function make_index(index_key, list_key, length, state)
  local positions, latest = {}, {}
  for from = 0, length - 1, 100 do
    for offset, record in ipairs(redis.call('LRANGE', list_key, int(from), int(from + 99))) do
      if not is_record(record) then return false end
      add_to_index(positions, latest, record, from + offset - 1)
    end
  end
  -- Redis refuses this at its memory limit, unless the script has allowed it; a deletion would allow all further writes.
  redis.call('HSET', index_key, '.', '')
  redis.call('UNLINK', index_key)
  for _, fields in ipairs({positions, latest}) do
    for field, value in pairs(fields) do redis.call('HSET', index_key, field, value) end
  end
  redis.call('HSET', index_key, '.', state)
  return true
end

-- The fields of the index, which is made anew if it is not of this state; nil if the session is no thread.
local function from_index(index_key, list_key, length, state, ...)
  local found = redis.call('HMGET', index_key, '.', ...)
  if found[1] == state or (length == 0 and not found[1]) then return found end
  if not make_index(index_key, list_key, length, state) then return nil end
  return redis.call('HMGET', index_key, '.', ...)
end

-- The state of a thread, in which places keep their meaning.
local function places_of(session) return (session.epoch or '0') .. ':' .. (session.restored_count or '0') end

-- The state of an index: the form of its fields, which was 1 before UUIDs lost their dashes, and what it covers.
local function index_state(places, length) return '2:' .. places .. ':' .. int(length) end

-- A checkpoint's position when it was written, where its tables begin, how many values it has, and how many references to
-- values. A read looks at hundreds of checkpoints, so each is taken apart in few steps.
local function tables_of(checkpoint)
  local _, a, b, c, d, ns_high, ns_low, id_high, id_low = string.byte(checkpoint, 1, 9)
  local tables = 10 + 256 * (ns_high + id_high) + ns_low + id_low
  local values_high, values_low, references_high, references_low = string.byte(checkpoint, tables, tables + 3)
  local at = 16777216 * a + 65536 * b + 256 * c + d
  return at, tables + 4, 256 * values_high + values_low, 256 * references_high + references_low
end

-- A place in the tables: the distance to its record, nil if it leads nowhere else, and the slot there.
local function place_in(checkpoint, at, entry)
  local a, b, c, d, high, low = string.byte(checkpoint, entry, entry + 5)
  local there = 16777216 * a + 65536 * b + 256 * c + d
  return there ~= NOWHERE and at - there or nil, 256 * high + low
end

-- The place of the predecessor of the value in a slot, and the value's bytes.
local function value_in(checkpoint, slot)
  local at, tables, values, references = tables_of(checkpoint)
  local entry, bytes = tables + 10 * slot, tables + 10 * values + 6 * references
  local begin = slot == 0 and 0 or u32(checkpoint, entry - 4)
  local distance, slot_there = place_in(checkpoint, at, entry)
  return distance, slot_there, string.sub(checkpoint, bytes + begin, bytes + u32(checkpoint, entry + 6) - 1)
end

-- A place as one number.
local function place_number(position, slot) return 65536 * position + slot end

-- The parts of a referenced value that are in earlier records, newest first. They end with a number instead if the caller
-- knows the rest: `known` has, for the number of a place, which of the caller's values is there. After a reference that
-- leads nowhere comes an empty part: no other part is empty.
local function earlier_parts(list_key, checkpoint, position, reference, known)
  local at, tables, values = tables_of(checkpoint)
  local distance, slot = place_in(checkpoint, at, tables + 10 * values + 6 * reference)
  if not distance then
    local own = known[place_number(position, slot)]
    if own then return {own} end
    distance, slot = place_in(checkpoint, at, tables + 10 * slot)
  end
  local parts = {}
  while distance and distance > 0 and distance <= position do
    position = position - distance
    local rest = known[place_number(position, slot)]
    if rest then
      parts[#parts + 1] = rest
      return parts
    end
    checkpoint = redis.call('LINDEX', list_key, int(position))
    if not is_checkpoint(checkpoint) then break end
    distance, slot, parts[#parts + 1] = value_in(checkpoint, slot)
  end
  if distance then parts[#parts + 1] = '' end
  return parts
end
