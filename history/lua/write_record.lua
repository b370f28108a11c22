-- Write a record of a LangGraph thread: a checkpoint, or the writes of a task. It counts as activity.
-- Atomic: the record, its entry in the index, metadata and due moment change together, and a record that is sent twice is
-- written once.
-- Uses: kind, number, owner, record, write
-- Reads: epoch, idle, max_age, owner, state, floor, recent_requests, tombstone_until, retention, last_active,
--   last_written, hold_pending, known_absent, restore_until, complete, restored_count
-- KEYS[1] list    records
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- KEYS[4] hash    tally
-- KEYS[5] string  recent requests, kept from before the session left Redis
-- KEYS[6] hash    index of the records
-- KEYS[7] set     the owner's sessions; present only with an owner
-- ARGV[1] session id
-- ARGV[2] request id, 8 bytes: the same each time that the same record is sent
-- ARGV[3] default idle timeout (ms)
-- ARGV[4] default maximum age (ms) or ''
-- ARGV[5] idle timeout (ms) for a session that has none of its own, or ''
-- ARGV[6] maximum age (ms) likewise, or ''
-- ARGV[7] retention in the archive (ms) likewise, or ''
-- ARGV[8] caller; an owner who is named becomes that of a session that is nobody's
-- ARGV[9] '1' to begin the session anew if a purge has left a tombstone
-- ARGV[10] '1' to refuse a session that may be asleep
-- ARGV[11] idle timeout (ms) from this write to the next activity if a task waits for a person at the checkpoint, or ''
-- ARGV[12] '1' if the record is such a task's interrupt, '0' if it resumes one, else ''
-- ARGV[13] state in which the record's places were read, '' if it has none
-- ARGV[14] number of records at that time: the position that stands in the record
-- ARGV[15] namespace of the checkpoint
-- ARGV[16] id of the checkpoint
-- ARGV[17] the record
-- Returns {'ok', state, position} | {'ok'} written before
--   | {'moved'} another state, or Redis has lost records: its places mean nothing any more
--   | {'kind'} the session is a chat | {'owner'} another owner's session | {'unowned'} | {'purged'}
--   | {'unknown'} it may be asleep
local keys = {messages = KEYS[1], metadata = KEYS[2], due = KEYS[3], tally = KEYS[4], recent_requests = KEYS[5],
  owner = KEYS[7]}
local given = {session_id = ARGV[1], request = ARGV[2], default_idle = ARGV[3], default_max_age = ARGV[4],
  idle = ARGV[5], max_age = ARGV[6], retention = ARGV[7], caller = ARGV[8], allow_reuse = ARGV[9],
  only_known = ARGV[10], next_idle = '', is_thread = true}
local session, position = read_session(KEYS[2]), redis.call('LLEN', KEYS[1])
local refused = refused_caller(session.owner, ARGV[8], KEYS[1])
if refused then return refused end
local places, expected, record = places_of(session), tonumber(ARGV[14]), ARGV[17]
if ARGV[13] ~= '' and (ARGV[13] ~= places or position < expected) then return {'moved'} end
if position ~= expected then record = with_position(record, position) end
local field = checkpoint_field(ARGV[15], ARGV[16])
local latest_field, waiting_field = 'l' .. ARGV[15], 'i' .. ARGV[15]
local at = int(position)
local index = from_index(KEYS[6], KEYS[1], position, index_state(places, position), field, latest_field, waiting_field)
if not index then return {'kind'} end
local waits = ARGV[12] == '1' or (ARGV[12] == '' and index[4] == ARGV[16])
if waits then given.next_idle = ARGV[11] end
local reply = write_messages(keys, given, session, {record}, 1)
if reply[1] ~= 'ok' then return reply end
if reply[2] == position then return {'ok'} end
local state = places_of(session)
local entries = {'.', index_state(state, position + 1), field, (index[2] or '') .. at .. ' '}
if is_checkpoint(record) and ARGV[16] > (index[3] or '') then add(entries, latest_field, ARGV[16]) end
if ARGV[12] == '1' then add(entries, waiting_field, ARGV[16]) end
redis.call('HSET', KEYS[6], unpack(entries))
if ARGV[12] == '0' then redis.call('HDEL', KEYS[6], waiting_field) end
return {'ok', state, at}
