-- Lease one session by its id, due or not.
-- Atomic: a session that another worker has leased is left to it.
-- Uses: clock, lease, memory, tally
-- KEYS[1] zset    due
-- KEYS[2] zset    quarantine
-- KEYS[3] hash    tally
-- ARGV[1] session id
-- ARGV[2] lease (ms)
-- Returns {'token', token, due score until now} | {'busy'} another worker has leased it | {'quarantined'}
--   | {'missing'} not in Redis
-- A session in quarantine has a due moment while its legal hold is pending. Only `claim` leases it then.
if redis.call('ZSCORE', KEYS[2], ARGV[1]) then return {'quarantined'} end
local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not score then return {'missing'} end
local now_ms = clock_ms()
if tonumber(score) > now_ms and is_lease(score) then return {'busy'} end
allow_at_memory_limit(KEYS[1])
local token = lease_token(now_ms, ARGV[2])
redis.call('ZADD', KEYS[1], token, ARGV[1])
note_count(KEYS[3], 'claims')
if is_lease(score) then note_count(KEYS[3], 'leases_ended') end
return {'token', token, score}
