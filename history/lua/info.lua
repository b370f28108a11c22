-- Describe a session. It does not count as activity.
-- Atomic: all values are from the same moment.
-- Uses: clock, legal_hold, number
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- KEYS[4] hash    legal holds
-- ARGV[1] session id
-- Returns {now ms, length, score or '', hold or '', field, value, ...} | {} not in Redis
local fields = redis.call('HGETALL', KEYS[2])
local length = redis.call('LLEN', KEYS[1])
if length == 0 and (#fields == 0 or redis.call('HEXISTS', KEYS[2], FIELD.known_absent) == 1) then return {} end
local score = redis.call('ZSCORE', KEYS[3], ARGV[1]) or ''
local hold = legal_hold(KEYS[4], ARGV[1], redis.call('HGET', KEYS[2], FIELD.owner)) or ''
return {int(clock_ms()), int(length), score, hold, unpack(fields)}
