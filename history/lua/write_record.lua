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
-- ARGV[14] namespace of the checkpoint
-- ARGV[15] id of the checkpoint
-- ARGV[16] kind of the record, 1 byte
-- ARGV[17] the record after its position
-- Returns {'ok', state, position} | {'ok'} written before | {'moved'} another state: its places mean nothing any more
--   | {'kind'} the session is a chat | {'owner'} another owner's session | {'unowned'} | {'purged'}
--   | {'unknown'} it may be asleep
local keys = {messages = KEYS[1], metadata = KEYS[2], due = KEYS[3], tally = KEYS[4], recent_requests = KEYS[5],
  owner = KEYS[7]}
local given = {session_id = ARGV[1], request = ARGV[2], default_idle = ARGV[3], default_max_age = ARGV[4],
  idle = ARGV[5], max_age = ARGV[6], retention = ARGV[7], caller = ARGV[8], allow_reuse = ARGV[9],
  only_known = ARGV[10]}
local session, position = read_session(KEYS[2]), redis.call('LLEN', KEYS[1])
local refused = refused_caller(session.owner, ARGV[8], KEYS[1])
if refused then return refused end
if ARGV[13] ~= '' and ARGV[13] ~= places_of(session) then return {'moved'} end
local field = checkpoint_field(ARGV[14], ARGV[15])
local latest_field, waiting_field = 'l' .. ARGV[14], 'i' .. ARGV[14]
local index = from_index(KEYS[6], KEYS[1], position, covered(session, position), field, latest_field, waiting_field)
if not index then return {'kind'} end
local waits = ARGV[12] == '1' or (ARGV[12] == '' and index[4] == ARGV[15])
given.next_idle, given.is_thread = waits and ARGV[11] or '', true
local reply = write_messages(keys, given, session, {with_position(ARGV[16], position, ARGV[17])}, 1)
if reply[1] ~= 'ok' then return reply end
if reply[2] == position then return {'ok'} end
local entries = {'.', covered(session, position + 1), field, (index[2] or '') .. int(position) .. ' '}
if is_checkpoint(ARGV[16]) and ARGV[15] > (index[3] or '') then add(entries, latest_field, ARGV[15]) end
if ARGV[12] == '1' then add(entries, waiting_field, ARGV[15]) end
redis.call('HSET', KEYS[6], unpack(entries))
if ARGV[12] == '0' then redis.call('HDEL', KEYS[6], waiting_field) end
return {'ok', places_of(session), int(position)}
