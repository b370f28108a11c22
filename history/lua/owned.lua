-- One step of a walk over an owner's sessions in a shard, with SSCAN: none is missed, one may come twice.
-- KEYS[1] set     the owner's sessions
-- ARGV[1] cursor, '0' to begin
-- ARGV[2] how many sessions to look at
-- Returns {next cursor ('0' at the end), session id...}
local step = redis.call('SSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
return {step[1], unpack(step[2])}
