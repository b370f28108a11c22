-- Describe a session. It does not count as activity.
-- Atomic: all values are from the same moment.
-- Uses: clock, kind, legal_hold, number, owner
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- KEYS[4] hash    legal holds
-- ARGV[1] session id
-- ARGV[2] caller
-- Returns {now ms, length, score or '', hold or '', kind or '', field, value, ...} | {} not in Redis
--   | {'owner'} another owner's session | {'unowned'}
local fields = redis.call('HGETALL', KEYS[2])
local length = redis.call('LLEN', KEYS[1])
if length == 0 and (#fields == 0 or redis.call('HEXISTS', KEYS[2], FIELD.known_absent) == 1) then return {} end
local owner = redis.call('HGET', KEYS[2], FIELD.owner)
local refused = refused_caller(owner, ARGV[2], KEYS[1])
if refused then return refused end
local score = redis.call('ZSCORE', KEYS[3], ARGV[1]) or ''
local hold = legal_hold(KEYS[4], ARGV[1], owner) or ''
return {int(clock_ms()), int(length), score, hold, kind_of(KEYS[1]), unpack(fields)}
