-- Read the configuration of a deployment, or record it at the first use.
-- Atomic: two first users agree on the shard count.
-- Uses: clock, number
-- KEYS[1] hash    the deployment's configuration
-- ARGV[1] shard count to record if there is none
-- ARGV[2] '1' to record, else only read
-- ARGV[3] default idle timeout (ms) to record, '' to leave it
-- ARGV[4] default maximum age (ms) to record, '' to leave it, '-' for none
-- ARGV[5] policies (JSON) to record, '' to leave them
-- ARGV[6] default retention in the archive (ms) to record, '' to leave it, '-' for none, which is recorded too
-- ARGV[7] '1' to record that sessions must have an owner, '-' that they need none, '' to leave it
-- ARGV[8] 'zstd' to record that messages are compressed, '-' that they are not, '' to leave it
-- ARGV[9] the newest dictionary that the caller knows, with which it compresses
-- Returns {shards, idle ms, max age ms, policies, retention ms, the deployment's id, its archive's URL,
--   '1' if sessions must have an owner, the tokens of the fence, 'zstd' if messages are compressed, the newest dictionary
--   with which some were, '1' if the shards count sessions by kind, now (ms)}, each but the last or false
local function read()
  local config = redis.call('HMGET', KEYS[1], 'shards', 'idle', 'max_age', 'policies', 'retention', 'deployment',
    'archive', 'require_owner', 'fence', 'compression', 'dictionary', 'kinds')
  config[#config + 1] = int(clock_ms())
  return config
end
local config = read()
-- A program that does not know the dictionary is refused, and must change nothing.
local is_newer = (tonumber(config[11]) or 0) > tonumber(ARGV[9])
if ARGV[2] ~= '1' or is_newer then return config end
-- A value that is recorded already is not written again, so a Redis at its memory limit has nothing to refuse. Other
-- libraries may have filled Redis before the first use. That one begins with a deletion of nothing, so it can write.
if not config[1] then
  redis.call('HDEL', KEYS[1], '')
  redis.call('HSET', KEYS[1], 'shards', ARGV[1], 'kinds', '1')
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
record('require_owner', ARGV[7], config[8])
record('compression', ARGV[8], config[10])
-- It is never lowered: what was compressed once may stand there for ever.
if ARGV[8] == 'zstd' then record('dictionary', ARGV[9], config[11]) end
-- Callers that wake a session must know if there is no default retention. Without a record they leave the retention
-- of the session's objects as it is.
if ARGV[6] == '-' then redis.call('HSET', KEYS[1], 'retention', '') else record('retention', ARGV[6], config[5]) end
return read()
