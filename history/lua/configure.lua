-- Read what is fixed for a deployment, or record it at first use.
-- Atomic so that two first users agree on the shard count.
-- KEYS[1] hash    the deployment's configuration
-- ARGV[1] shard count to record where there is none
-- ARGV[2] '1' to record it
-- ARGV[3] default idle timeout (ms) to record, '' to leave it
-- ARGV[4] default maximum age (ms) to record, '' to leave it, '-' for none
-- Returns {shards or false, idle ms or false, max age ms or false}
local config = redis.call('HMGET', KEYS[1], 'shards', 'idle', 'max_age')
if ARGV[2] ~= '1' then return config end
-- What is right already is not written, so that a Redis at its memory limit has nothing to refuse.
if not config[1] then redis.call('HSET', KEYS[1], 'shards', ARGV[1]) end
if ARGV[3] ~= '' and ARGV[3] ~= config[2] then redis.call('HSET', KEYS[1], 'idle', ARGV[3]) end
if ARGV[4] == '-' then
  redis.call('HDEL', KEYS[1], 'max_age')
elseif ARGV[4] ~= '' and ARGV[4] ~= config[3] then
  redis.call('HSET', KEYS[1], 'max_age', ARGV[4])
end
return redis.call('HMGET', KEYS[1], 'shards', 'idle', 'max_age')
