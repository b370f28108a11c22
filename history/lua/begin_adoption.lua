-- Begin the adoption of a session, unless one is running. This works at the memory limit too, because an adopted
-- session can be archived.
-- Atomic: all callers that begin at the same time get the same adoption, and continue it together.
-- Uses: clock, memory, number, owner, tombstone
-- Reads: owner, state, tombstone_until, complete
-- KEYS[1] hash    adoptions
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- KEYS[4] list    messages
-- ARGV[1] session id
-- ARGV[2] the adoption without the moment of its beginning
-- ARGV[3] caller
-- ARGV[4] '1' to begin the session anew if a purge has left a tombstone
-- ARGV[5] '1' to refuse a session that may be asleep
-- Returns {'running', the adoption: 'beginning (ms):' and ARGV[2]} | {'owner'} another owner's session | {'unowned'}
--   | {'purged'} | {'unknown'} it may be asleep
local session = read_session(KEYS[2])
if refuses_writes(session, ARGV[4]) then return {'purged'} end
local refused = refused_caller(session.owner, ARGV[3], KEYS[4])
if refused then return refused end
if ARGV[5] == '1' and may_be_asleep(session.owner, session.complete, KEYS[4]) then return {'unknown'} end
allow_at_memory_limit(KEYS[3])
redis.call('HSETNX', KEYS[1], ARGV[1], int(clock_ms()) .. ':' .. ARGV[2])
return {'running', redis.call('HGET', KEYS[1], ARGV[1])}
