-- Tell of something that has happened: add it to the deployment's stream of events.
-- Atomic as each script is; about the last ARGV[1] events are kept.
-- KEYS[1] stream  events
-- ARGV[1] how many to keep
-- ARGV[2...] field, value, ...
-- Returns the event's id
return redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', unpack(ARGV, 2))
