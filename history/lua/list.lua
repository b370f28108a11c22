-- One step of a walk over the sessions of a shard, with ZSCAN: none is missed, one may come twice.
-- KEYS[1] zset    due or quarantine
-- ARGV[1] cursor, '0' to begin
-- ARGV[2] how many sessions to look at
-- Returns {next cursor ('0' at the end), session id...}
local step = redis.call('ZSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local reply = {step[1]}
for index = 1, #step[2], 2 do reply[#reply + 1] = step[2][index] end
return reply
