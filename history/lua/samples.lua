-- Read the samples of the last while, oldest first.
-- Uses: clock, number
-- KEYS[1] stream  samples
-- ARGV[1] how far back (ms)
-- ARGV[2] the id after which to go on, '' for the first page
-- ARGV[3] how many at most
-- Returns {{id, {field, value, ...}}, ...}
local first = ARGV[2] ~= '' and '(' .. ARGV[2] or int(clock_ms() - ARGV[1])
return redis.call('XRANGE', KEYS[1], first, '+', 'COUNT', ARGV[3])
