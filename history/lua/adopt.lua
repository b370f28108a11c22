-- Append a page of what was taken from another library, and note how far the adoption is.
-- Atomic: a page is written once, by whichever of those who adopt the session comes first, and never after its end.
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- KEYS[4] hash    tally
-- KEYS[5] string  requests that the session had seen when it left Redis
-- KEYS[6] hash    adoptions
-- KEYS[7] set     the owner's sessions; present only with an owner
-- ARGV[1] session
-- ARGV[2] the adoption as the caller knows it
-- ARGV[3] the adoption after this page
-- ARGV[4] default idle timeout (ms)
-- ARGV[5] default maximum age (ms) or ''
-- ARGV[6] idle timeout (ms) for a session that has none of its own, or ''
-- ARGV[7] maximum age (ms) likewise, or ''
-- ARGV[8] retention in the archive (ms) likewise, or ''
-- ARGV[9] owner or ''
-- ARGV[10] '1' to begin anew where a purge has left a tombstone
-- ARGV[11...] messages, oldest first
-- Returns {'ok', length of the list} | {'moved', the adoption as it is, '' for none} | {'owner'} another owner's session
--   | {'purged'}
local adoption = redis.call('HGET', KEYS[6], ARGV[1])
if adoption ~= ARGV[2] then return {'moved', adoption or ''} end
allow_at_memory_limit(KEYS[3])
local keys = {messages = KEYS[1], metadata = KEYS[2], due = KEYS[3], tally = KEYS[4], seen = KEYS[5], owner = KEYS[7]}
local given = {session = ARGV[1], default_idle = ARGV[4], default_max_age = ARGV[5], idle = ARGV[6], max_age = ARGV[7],
  retention = ARGV[8], owner = ARGV[9], allow_reuse = ARGV[10]}
local reply = append(keys, given, ARGV, 11)
if reply[1] == 'ok' then redis.call('HSET', KEYS[6], ARGV[1], ARGV[3]) end
return reply
