-- Append a page of the messages that were taken from another library, and note how far the adoption is.
-- Atomic: several callers may adopt the same session; each page is written once, and none after the adoption's end.
-- Uses: memory, write
-- Reads: epoch, idle, max_age, owner, state, floor, recent_requests, tombstone_until, retention, last_active,
--   last_written, hold_pending, known_absent, restore_until, complete
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- KEYS[4] hash    tally
-- KEYS[5] string  recent requests, kept from before the session left Redis
-- KEYS[6] hash    adoptions
-- KEYS[7] set     the owner's sessions; present only with an owner
-- ARGV[1] session id
-- ARGV[2] the adoption as the caller knows it
-- ARGV[3] the adoption after this page
-- ARGV[4] default idle timeout (ms)
-- ARGV[5] default maximum age (ms) or ''
-- ARGV[6] idle timeout (ms) for a session that has none of its own, or ''
-- ARGV[7] maximum age (ms) likewise, or ''
-- ARGV[8] retention in the archive (ms) likewise, or ''
-- ARGV[9] caller; an owner who is named becomes that of a session that is nobody's
-- ARGV[10] '1' to begin the session anew if a purge has left a tombstone
-- ARGV[11...] messages, JSON bytes, oldest first
-- Returns {'ok', length of the list} | {'moved', the adoption as it is now, '' if there is none}
--   | {'owner'} another owner's session | {'unowned'} | {'purged'} | {'kind'} the session is a thread
local adoption = redis.call('HGET', KEYS[6], ARGV[1])
if adoption ~= ARGV[2] then return {'moved', adoption or ''} end
allow_at_memory_limit(KEYS[3])
local keys = {messages = KEYS[1], metadata = KEYS[2], due = KEYS[3], tally = KEYS[4], recent_requests = KEYS[5],
  owner = KEYS[7]}
local given = {session_id = ARGV[1], default_idle = ARGV[4], default_max_age = ARGV[5], idle = ARGV[6],
  max_age = ARGV[7], retention = ARGV[8], caller = ARGV[9], allow_reuse = ARGV[10]}
local reply = write_messages(keys, given, read_session(KEYS[2]), ARGV, 11)
if reply[1] == 'ok' then redis.call('HSET', KEYS[6], ARGV[1], ARGV[3]) end
return reply
