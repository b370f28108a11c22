-- Find the JSON documents in which another library has the messages of a session, one document a message.
-- By that library's search index if it has all of the documents; else by one step of a walk over the key space.
-- Atomic: with an index, all documents are found at one moment. For a server of one node: their keys are in any slot.
-- KEYS[1] list    the taken messages; there is no such list yet
-- ARGV[1] what stands before the session ids in the keys of all documents
-- ARGV[2] session id
-- ARGV[3] the query of the search for it, which may find other sessions too
-- ARGV[4] pattern of the keys, which may match other keys too
-- ARGV[5] cursor of the walk, '' to begin
-- ARGV[6] how many keys a step looks at
-- Returns {next cursor ('0' at the end), key, time (s), ...} in any order; a key may come twice
local prefix = ARGV[1]

-- A text of a reply of the search, which has status replies for some.
local function text(value) return type(value) == 'table' and value.ok or value end

local function pairs_of(list)
  local found = {}
  for index = 1, #list, 2 do found[text(list[index])] = text(list[index + 1]) end
  return found
end

-- Does an index have every document below the prefix? One that the search could not read is in none.
local function is_complete(name)
  local info = redis.pcall('FT.INFO', name)
  if info.err then return false end
  info = pairs_of(info)
  local definition = pairs_of(info.index_definition)
  if definition.key_type ~= 'JSON' or tonumber(info.indexing) ~= 0 or tonumber(info.hash_indexing_failures) ~= 0 then
    return false
  end
  for _, each in ipairs(definition.prefixes) do
    if string.sub(prefix, 1, #text(each)) == text(each) then return true end
  end
  return false
end

-- The keys that an index has; nil without an index that has them all.
local function indexed()
  local names = redis.pcall('FT._LIST')
  for _, name in ipairs(names.err and {} or names) do
    if is_complete(text(name)) then
      local found = redis.pcall('FT.SEARCH', text(name), ARGV[3], 'NOCONTENT', 'LIMIT', '0', '1000000', 'TIMEOUT', '0')
      if not found.err and #found - 1 == found[1] then
        table.remove(found, 1)
        return found
      end
    end
  end
end

local root = redis.pcall('JSON.GET', KEYS[1])
if root and root.err and string.find(root.err, 'nknown', 1, true) then return {'0'} end
local cursor, keys = '0', ARGV[5] == '' and indexed()
if not keys then
  cursor, keys = unpack(redis.call('SCAN', ARGV[5] == '' and '0' or ARGV[5], 'MATCH', ARGV[4], 'COUNT', ARGV[6]))
end
local reply = {cursor}
for _, key in ipairs(keys) do
  local document = string.sub(key, 1, #prefix) == prefix and redis.pcall('JSON.GET', key, '$.session_id', '$.timestamp')
  if type(document) == 'string' then
    local parts = cjson.decode(document)
    local moment = tonumber(parts['$.timestamp'][1])
    if parts['$.session_id'][1] == ARGV[2] and moment then
      reply[#reply + 1] = key
      reply[#reply + 1] = string.format('%.6f', moment)
    end
  end
end
return reply
