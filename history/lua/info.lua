-- Describe a session without counting as activity.
-- Atomic: all numbers are of one moment.
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- KEYS[4] hash    legal holds
-- ARGV[1] session
-- Returns {now ms, length, score or '', hold or '', field, value, ...} | {} not in Redis
local fields = redis.call('HGETALL', KEYS[2])
local length = redis.call('LLEN', KEYS[1])
if length == 0 and (#fields == 0 or redis.call('HEXISTS', KEYS[2], 'empty') == 1) then return {} end
local score = redis.call('ZSCORE', KEYS[3], ARGV[1]) or ''
local hold = legal_hold(KEYS[4], ARGV[1], redis.call('HGET', KEYS[2], 'owner')) or ''
return {int(to_ms(now_us())), int(length), score, hold, unpack(fields)}
