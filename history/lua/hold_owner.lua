-- Put an owner under a legal hold in one shard, or release it: the owner's sessions are neither cleared nor purged.
-- Uses: legal_hold, number
-- KEYS[1] hash    legal holds
-- ARGV[1] owner
-- ARGV[2] the reason, '' to release
-- ARGV[3] who sets it, '' if nobody said
-- Returns the hold that was set or released, 'since (ms):reason', or '' if there was none to release
local field = 'o' .. ARGV[1]
local hold = hold_at(KEYS[1], field) or ''
if ARGV[2] == '' then
  redis.call('HDEL', KEYS[1], field, 'b' .. field)
else
  hold = int(hold_moment(KEYS[1], 'owner', ARGV[1])) .. ':' .. ARGV[2]
  redis.call('HSET', KEYS[1], field, hold)
  note_setter(KEYS[1], field, ARGV[3])
end
return hold
