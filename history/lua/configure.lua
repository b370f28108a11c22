-- Read what is fixed for a deployment, or record it at first use.
-- Atomic so that two first users agree on the shard count.
-- KEYS[1] hash    the deployment's configuration
-- ARGV[1] shard count to record where there is none
-- ARGV[2] '1' to record it
-- ARGV[3] default idle timeout (ms) to record, '' to leave it
-- ARGV[4] default maximum age (ms) to record, '' to leave it, '-' for none
-- ARGV[5] policies (JSON) to record, '' to leave them
-- Returns {shards or false, idle ms or false, max age ms or false, policies or false}
local config = redis.call('HMGET', KEYS[1], 'shards', 'idle', 'max_age', 'policies')
if ARGV[2] ~= '1' then return config end
-- What is right already is not written, so that a Redis at its memory limit has nothing to refuse.
if not config[1] then redis.call('HSET', KEYS[1], 'shards', ARGV[1]) end
if ARGV[3] ~= '' and ARGV[3] ~= config[2] then redis.call('HSET', KEYS[1], 'idle', ARGV[3]) end
if ARGV[4] == '-' then
  redis.call('HDEL', KEYS[1], 'max_age')
elseif ARGV[4] ~= '' and ARGV[4] ~= config[3] then
  redis.call('HSET', KEYS[1], 'max_age', ARGV[4])
end
if ARGV[5] ~= '' and ARGV[5] ~= (config[4] or '[]') then redis.call('HSET', KEYS[1], 'policies', ARGV[5]) end
return redis.call('HMGET', KEYS[1], 'shards', 'idle', 'max_age', 'policies')
