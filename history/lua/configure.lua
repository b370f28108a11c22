-- Read what is fixed for a deployment, recording it at first use.
-- Atomic so that two first users agree on the shard count.
-- KEYS[1] hash    the deployment's configuration
-- ARGV[1] shard count to record where there is none
-- ARGV[2] default idle timeout (ms) to record, '' to leave it
-- ARGV[3] default maximum age (ms) to record, '' to leave it, '-' for none
-- Returns {shards, idle ms or false, max age ms or false}
if redis.call('HEXISTS', KEYS[1], 'shards') == 0 then
  redis.call('HSET', KEYS[1], 'shards', ARGV[1])
end
if ARGV[2] ~= '' then redis.call('HSET', KEYS[1], 'idle', ARGV[2]) end
if ARGV[3] == '-' then
  redis.call('HDEL', KEYS[1], 'max_age')
elseif ARGV[3] ~= '' then
  redis.call('HSET', KEYS[1], 'max_age', ARGV[3])
end
return redis.call('HMGET', KEYS[1], 'shards', 'idle', 'max_age')
