-- Add events to the deployment's stream, which keeps about the newest ones.
-- Atomic: the events of a call stand together, in their order.
-- KEYS[1] stream  events
-- ARGV[1] how many events to keep
-- ARGV[2...] for each event the number of its parts, then field, value, ...
-- Returns 1
local from = 2
while from <= #ARGV do
  local parts = tonumber(ARGV[from])
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', unpack(ARGV, from + 1, from + parts))
  from = from + 1 + parts
end
return 1
