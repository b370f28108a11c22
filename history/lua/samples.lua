-- Read the samples of the last while, oldest first. Those that lie ahead of the clock, which was set back, are left out.
-- Uses: clock, number
-- KEYS[1] stream  samples
-- ARGV[1] how far back (ms)
-- ARGV[2] the id after which to go on, '' for the first page
-- ARGV[3] how many at most
-- Returns {{id, {field, value, ...}}, ...}
local now_ms = clock_ms()
local first = ARGV[2] ~= '' and '(' .. ARGV[2] or int(now_ms - ARGV[1])
return redis.call('XRANGE', KEYS[1], first, int(now_ms), 'COUNT', ARGV[3])
