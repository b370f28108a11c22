-- Add a sample of the deployment's figures, unless the last one is younger than a span. If the clock was set back by more
-- than an hour, the samples begin anew: a stream takes no entry that is older than its last one.
-- Atomic: of several who have sampled at the same time, one adds its sample.
-- Uses: clock
-- KEYS[1] stream  samples
-- ARGV[1] the span (ms)
-- ARGV[2] how many samples to keep, about
-- ARGV[3...] field, value, ...
-- Returns 1, or 0 if the last sample is younger
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local age_ms = last and clock_ms() - tonumber(string.match(last[1], '^%d+'))
if age_ms and age_ms < -3600000 then
  redis.call('DEL', KEYS[1])
elseif age_ms and age_ms < tonumber(ARGV[1]) then
  return 0
end
redis.call('XDEL', KEYS[1], '0-1') -- Redis allows a deletion at its memory limit, and then all writes
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', unpack(ARGV, 3))
return 1
