-- Finish a restore: put what was staged before whatever was written meanwhile.
-- Atomic: readers see the live messages alone or the whole transcript.
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- KEYS[4] hash    tally
-- KEYS[5] list    staging
-- KEYS[6] set     the owner's sessions; present only with an owner
-- ARGV[1] session
-- ARGV[2] token of the restore
-- ARGV[3] how many messages were staged
-- ARGV[4] default idle timeout (ms)
-- ARGV[5] default maximum age (ms) or ''
-- ARGV[6] created (ms) as the archive has it, or ''
-- ARGV[7] idle timeout (ms) likewise
-- ARGV[8] maximum age (ms) likewise
-- ARGV[9] retention in the archive (ms) likewise
-- ARGV[10] owner likewise
-- ARGV[11] how long (ms) a session without any messages is remembered as one, '' not at all
-- Returns 'restored' | 'nothing' the archive was empty and so is the session | 'superseded' | 'lost'
--   | 'owner' the archive has it for another owner
local meta = redis.call('HMGET', KEYS[2], 'restoring', 'epoch', 'base', 'archived', 'state', 'owner', 'holding')
if meta[1] ~= ARGV[2] then return 'superseded' end
if meta[6] and ARGV[10] ~= '' and meta[6] ~= ARGV[10] then return 'owner' end
local count = tonumber(ARGV[3])
if redis.call('LLEN', KEYS[5]) ~= count then return 'lost' end
local live = redis.call('LLEN', KEYS[1])
allow_at_memory_limit(KEYS[3])
if count + live == 0 then
  if meta[7] then -- a hold that came meanwhile is still to be seen to
    redis.call('HDEL', KEYS[2], 'restoring', 'restoring_until')
    set_due(KEYS[3], ARGV[1], to_ms(now_us()))
    return 'nothing'
  end
  if ARGV[11] == '' then
    redis.call('UNLINK', KEYS[2])
    redis.call('ZREM', KEYS[3], ARGV[1])
  else -- the turn that is beginning need not ask the archive again
    redis.call('HSET', KEYS[2], 'whole', '1', 'empty', '1')
    redis.call('HDEL', KEYS[2], 'restoring', 'restoring_until')
    set_due(KEYS[3], ARGV[1], to_ms(now_us()) + tonumber(ARGV[11]))
  end
  return 'nothing'
end
-- These come first, and fail before a message has moved where their keys are no longer of their type.
if KEYS[6] then redis.call('SADD', KEYS[6], ARGV[1]) end
if count > 0 then
  redis.call('HINCRBY', KEYS[4], 'restored', 1)
  for from = 0, live - 1, 1000 do
    redis.call('RPUSH', KEYS[5], unpack(redis.call('LRANGE', KEYS[1], from, from + 999)))
  end
  redis.call('UNLINK', KEYS[1]) -- RENAME would free what it replaces at once, however large
  redis.call('RENAME', KEYS[5], KEYS[1])
  redis.call('PERSIST', KEYS[1])
  redis.call('HSET', KEYS[2], 'base', int((meta[3] or 0) + count), 'archived', int((meta[4] or 0) + count))
end
for index, name in ipairs({'created', 'idle', 'max_age', 'retention', 'owner'}) do
  if ARGV[5 + index] ~= '' then redis.call('HSETNX', KEYS[2], name, ARGV[5 + index]) end
end
redis.call('HSET', KEYS[2], 'whole', '1')
redis.call('HDEL', KEYS[2], 'restoring', 'restoring_until')
if meta[7] then
  set_due(KEYS[3], ARGV[1], to_ms(now_us())) -- a hold that came meanwhile is still to be seen to
elseif meta[5] ~= 'quarantined' then
  local expiry = redis.call('HMGET', KEYS[2], 'idle', 'max_age')
  schedule(KEYS[3], ARGV[1], to_ms(now_us()), meta[2], expiry[1] or ARGV[4], expiry[2] or ARGV[5])
end
return 'restored'
