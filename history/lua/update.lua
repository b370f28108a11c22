-- Change a session's expiry, and with it the moment at which it is due.
-- Atomic: metadata and due moment change together; a worker that holds the session must look again.
-- KEYS[1] hash    metadata
-- KEYS[2] zset    due
-- ARGV[1] session
-- ARGV[2] idle timeout (ms), '' to keep it, '-' for the default
-- ARGV[3] maximum age (ms) likewise
-- ARGV[4] retention in the archive (ms) likewise
-- ARGV[5] default idle timeout (ms)
-- ARGV[6] default maximum age (ms) or ''
-- Returns 1 | 0 not in Redis, or purged
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'active', 'state', 'floor', 'empty')
if not meta[1] or meta[3] == 'purged' or meta[5] then return 0 end
for index, name in ipairs({'idle', 'max_age', 'retention'}) do
  local value = ARGV[index + 1]
  if value == '-' then
    redis.call('HDEL', KEYS[1], name)
  elseif value ~= '' then
    redis.call('HSET', KEYS[1], name, value)
  end
end
if meta[3] ~= 'quarantined' and not meta[4] then
  local expiry = redis.call('HMGET', KEYS[1], 'idle', 'max_age')
  schedule(KEYS[2], ARGV[1], tonumber(meta[2]), meta[1], expiry[1] or ARGV[5], expiry[2] or ARGV[6])
end
return 1
