-- Make a session due now.
-- Atomic: a session that leaves Redis at the same time is not put back into the due index.
-- Uses: clock, due, memory, owner
-- Reads: owner
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- ARGV[1] session id
-- ARGV[2] caller
-- Returns {'closed'} | {'absent'} not in Redis, or in quarantine | {'owner'} another owner's session | {'unowned'}
local session = read_session(KEYS[2])
local refused = refused_caller(session.owner, ARGV[2], KEYS[1])
if refused then return refused end
if not redis.call('ZSCORE', KEYS[3], ARGV[1]) then return {'absent'} end
allow_at_memory_limit(KEYS[3])
set_due(KEYS[3], ARGV[1], clock_ms())
return {'closed'}
