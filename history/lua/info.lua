-- Describe a session without counting as activity.
-- Atomic: all numbers are of one moment.
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- ARGV[1] session
-- Returns {now ms, length, score or '', field, value, ...} | {} not in Redis
local fields = redis.call('HGETALL', KEYS[2])
local length = redis.call('LLEN', KEYS[1])
if #fields == 0 and length == 0 then return {} end
local score = redis.call('ZSCORE', KEYS[3], ARGV[1]) or ''
return {int(to_ms(now_us())), int(length), score, unpack(fields)}
