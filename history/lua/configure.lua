-- Read what is fixed for a deployment, or record it at first use.
-- Atomic so that two first users agree on the shard count.
-- KEYS[1] hash    the deployment's configuration
-- ARGV[1] shard count to record where there is none
-- ARGV[2] '1' to record it
-- ARGV[3] default idle timeout (ms) to record, '' to leave it
-- ARGV[4] default maximum age (ms) to record, '' to leave it, '-' for none
-- ARGV[5] policies (JSON) to record, '' to leave them
-- ARGV[6] default retention in the archive (ms) to record, '' to leave it, '-' for none, which is recorded too
-- Returns {shards or false, idle ms or false, max age ms or false, policies or false, retention ms or false}
local config = redis.call('HMGET', KEYS[1], 'shards', 'idle', 'max_age', 'policies', 'retention')
if ARGV[2] ~= '1' then return config end
-- What is right already is not written, so that a Redis at its memory limit has nothing to refuse. The first use begins
-- with a deletion of nothing, which lets it write there: with other libraries' sessions Redis may be full before it.
if not config[1] then
  redis.call('HDEL', KEYS[1], '')
  redis.call('HSET', KEYS[1], 'shards', ARGV[1])
end
local function record(name, wanted, known)
  if wanted == '-' then
    redis.call('HDEL', KEYS[1], name)
  elseif wanted ~= '' and wanted ~= known then
    redis.call('HSET', KEYS[1], name, wanted)
  end
end
record('idle', ARGV[3], config[2])
record('max_age', ARGV[4], config[3])
record('policies', ARGV[5], config[4] or '[]')
-- Whoever wakes a session must know that there is none: not knowing it, it leaves what the archive keeps as it is.
if ARGV[6] == '-' then redis.call('HSET', KEYS[1], 'retention', '') else record('retention', ARGV[6], config[5]) end
return redis.call('HMGET', KEYS[1], 'shards', 'idle', 'max_age', 'policies', 'retention')
