-- Make a session due now.
-- Atomic: a session that leaves Redis at the same time is not put back into the due index.
-- Uses: clock, due, memory, owner
-- Reads: owner, complete
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- ARGV[1] session id
-- ARGV[2] caller
-- Returns {'closed'} | {'absent'} not in Redis, or in quarantine | {'owner'} another owner's session | {'unowned'}
local session = read_session(KEYS[2])
local refused = refused_caller(session.owner, ARGV[2], KEYS[1])
if refused then return refused end
-- A session that is being woken is not closed by somebody who may not be its owner: that would end the restore.
if ARGV[2] ~= '*' and may_be_asleep(session.owner, session.complete, KEYS[1]) then return {'absent'} end
if not redis.call('ZSCORE', KEYS[3], ARGV[1]) then return {'absent'} end
allow_at_memory_limit(KEYS[3])
set_due(KEYS[3], ARGV[1], clock_ms())
return {'closed'}
