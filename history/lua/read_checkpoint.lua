-- Read a checkpoint of a LangGraph thread, with the values that it refers to and the writes of its tasks. It can count as
-- activity.
-- Atomic: all records are of the same moment.
-- Uses: activity, kind, memory, number, owner, record
-- Reads: epoch, restored_count, idle, max_age, state, floor, last_active, complete, hold_pending, last_written,
--   restore_until, tombstone_until, owner
-- KEYS[1] list    records
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- KEYS[4] hash    index of the records
-- ARGV[1] session id
-- ARGV[2] '1' to count as activity
-- ARGV[3] default idle timeout (ms)
-- ARGV[4] default maximum age (ms) or ''
-- ARGV[5] namespace of the checkpoint
-- ARGV[6] id of the checkpoint, '' for the latest one
-- ARGV[7] caller
-- ARGV[8] state in which the caller's known values were read, '' if it has none
-- ARGV[9] number of records at that time
-- ARGV[10...] for each known value: its place, as 65536 * position + slot
-- Returns {'1' if no part is in the archive alone, state, number of records, [position, checkpoint, [for each value: its
--   parts in earlier records, newest first; the number of the known value it goes on after, if that is so], record of writes...]}
--   without the rest if there is no such checkpoint | {'kind'} it is a chat | {'owner'} another owner's session | {'unowned'}
local length = redis.call('LLEN', KEYS[1])
local session = read_session(KEYS[2])
local refused = refused_caller(session.owner, ARGV[7], KEYS[1])
if refused then return refused end
local places = places_of(session)
local reply = {(session.complete or session.state == 'purged') and '1' or '0', places, int(length)}
if length == 0 then return reply end
local wanted = ARGV[6]
local state, latest_field = index_state(places, length), 'l' .. ARGV[5]
allow_at_memory_limit(KEYS[3])
local index = from_index(KEYS[4], KEYS[1], length, state, checkpoint_field(ARGV[5], wanted), latest_field)
if not index then return {'kind'} end
if ARGV[2] == '1' then note_read(KEYS[2], KEYS[3], ARGV[1], session, length, ARGV[3], ARGV[4]) end
local positions = index[2]
if wanted == '' and index[3] then positions = redis.call('HGET', KEYS[4], checkpoint_field(ARGV[5], index[3])) end
local writes, checkpoint, position = {}, nil, nil
for at in string.gmatch(positions or '', '%d+') do
  local record = redis.call('LINDEX', KEYS[1], at)
  if is_checkpoint(record) then checkpoint, position = record, tonumber(at) else writes[#writes + 1] = record end
end
if not checkpoint then return reply end
local known = {}
if ARGV[8] == places and length >= tonumber(ARGV[9]) then
  for number = 10, #ARGV do known[tonumber(ARGV[number])] = number - 9 end
end
local values = {}
for reference = 1, select(4, tables_of(checkpoint)) do
  values[reference] = earlier_parts(KEYS[1], checkpoint, position, reference - 1, known)
end
reply[4], reply[5], reply[6] = int(position), checkpoint, values
for number, record in ipairs(writes) do reply[6 + number] = record end
return reply
