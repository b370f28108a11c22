-- Tell of what has happened: add events to the deployment's stream, of which about the last ones are kept.
-- Atomic: they stand together, in order.
-- KEYS[1] stream  events
-- ARGV[1] how many to keep
-- ARGV[2...] of each event how many parts it has, then field, value, ...
-- Returns 1
local from = 2
while from <= #ARGV do
  local parts = tonumber(ARGV[from])
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', unpack(ARGV, from + 1, from + parts))
  from = from + 1 + parts
end
return 1
