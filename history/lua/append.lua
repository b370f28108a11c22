-- Append the messages of one turn, and create the session if it is not in Redis. It counts as activity.
-- Atomic: messages, metadata and due moment change together, and a turn that is sent twice is written once.
-- Uses: write
-- Reads: epoch, idle, max_age, owner, state, floor, recent_requests, tombstone_until, retention, last_active,
--   last_written, hold_pending, known_absent, restore_until, complete
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- KEYS[4] hash    tally
-- KEYS[5] string  recent requests, kept from before the session left Redis
-- KEYS[6] set     the owner's sessions; present only with an owner
-- ARGV[1] session id
-- ARGV[2] request id, 8 bytes: the same each time that the same turn is sent
-- ARGV[3] default idle timeout (ms)
-- ARGV[4] default maximum age (ms) or ''
-- ARGV[5] idle timeout (ms) for a session that has none of its own, or ''
-- ARGV[6] maximum age (ms) likewise, or ''
-- ARGV[7] retention in the archive (ms) likewise, or ''
-- ARGV[8] caller; an owner who is named becomes that of a session that is nobody's
-- ARGV[9] '1' to refuse a session that exists
-- ARGV[10] '1' to begin the session anew if a purge has left a tombstone
-- ARGV[11] '1' to refuse a session that may be asleep
-- ARGV[12...] messages, JSON bytes, oldest first; there may be none
-- Returns {'ok', length of the list} | {'owner'} another owner's session | {'unowned'} | {'exists'} | {'purged'}
--   | {'unknown'} it may be asleep | {'kind'} the session is a thread and the messages are a chat's, or the reverse
local keys = {messages = KEYS[1], metadata = KEYS[2], due = KEYS[3], tally = KEYS[4], recent_requests = KEYS[5],
  owner = KEYS[6]}
local given = {session_id = ARGV[1], request = ARGV[2], default_idle = ARGV[3], default_max_age = ARGV[4],
  idle = ARGV[5], max_age = ARGV[6], retention = ARGV[7], caller = ARGV[8], only_new = ARGV[9], allow_reuse = ARGV[10],
  only_known = ARGV[11]}
return write_messages(keys, given, read_session(KEYS[2]), ARGV, 12)
