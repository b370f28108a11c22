-- Append the messages of one turn, creating the session where it is not in Redis; counts as activity.
-- Atomic: messages, metadata and due moment change together, and a turn sent twice is written once.
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- KEYS[4] hash    tally
-- KEYS[5] string  requests that the session had seen when it left Redis
-- KEYS[6] set     the owner's sessions; present only with an owner
-- ARGV[1] session
-- ARGV[2] request id, 8 bytes: the same for each sending of the same turn
-- ARGV[3] default idle timeout (ms)
-- ARGV[4] default maximum age (ms) or ''
-- ARGV[5] idle timeout (ms) for a session that has none of its own, or ''
-- ARGV[6] maximum age (ms) likewise, or ''
-- ARGV[7] retention in the archive (ms) likewise, or ''
-- ARGV[8] owner or ''
-- ARGV[9] '1' to refuse a session that exists
-- ARGV[10] '1' to begin anew where a purge has left a tombstone
-- ARGV[11...] messages, JSON bytes, oldest first; none is fine
-- Returns {'ok', length of the list} | {'owner'} another owner's session | {'exists'} | {'purged'}
local meta = redis.call('HMGET', KEYS[2], 'epoch', 'idle', 'max_age', 'owner', 'state', 'floor', 'seen', 'until',
  'retention', 'written', 'holding', 'empty')
local epoch, idle, max_age, owner = meta[1], meta[2], meta[3], meta[4]
local seen = meta[7]
if not epoch and not seen then seen = redis.call('GET', KEYS[5]) end
if has_seen(seen, ARGV[2]) then return {'ok', redis.call('LLEN', KEYS[1])} end
local now_ms = to_ms(now_us())
local buried = meta[5] == 'purged'
if buried then
  if ARGV[10] ~= '1' and tonumber(meta[8]) > now_ms then return {'purged'} end
elseif epoch and not meta[12] and ARGV[9] == '1' then
  return {'exists'}
end
if owner and ARGV[8] ~= '' and owner ~= ARGV[8] then return {'owner'} end

local length = redis.call('LLEN', KEYS[1])
local fields = {'active', int(now_ms), 'seen', with_seen(seen, ARGV[2], now_ms)}
local function set(name, value) fields[#fields + 1] = name; fields[#fields + 1] = value end
-- Where the metadata was lost, nothing tells which messages the archive has: no epoch, until the worker finds it so.
local damaged = not epoch and length > 0
if not epoch and not damaged then
  epoch = int(next_epoch(KEYS[4]))
  set('epoch', epoch)
end
if not idle and ARGV[5] ~= '' then idle = ARGV[5]; set('idle', idle) end
if not max_age and ARGV[6] ~= '' then max_age = ARGV[6]; set('max_age', max_age) end
if not meta[9] and ARGV[7] ~= '' then set('retention', ARGV[7]) end
if not owner and ARGV[8] ~= '' then
  set('owner', ARGV[8])
  redis.call('SADD', KEYS[6], ARGV[1])
end
-- A quarantined session waits for a person, a cleared one is due until its archive is erased, and one whose legal hold
-- has changed until its objects are seen to.
if damaged then
  if meta[5] ~= 'quarantined' then set_due(KEYS[3], ARGV[1], now_ms) end
elseif buried then
  set_due(KEYS[3], ARGV[1], now_ms)
elseif meta[5] ~= 'quarantined' and not (meta[6] or meta[11]) then
  schedule(KEYS[3], ARGV[1], now_ms, epoch, idle or ARGV[3], max_age or ARGV[4], now_ms)
end
-- By now every key has proved to be of its type, and the memory limit, at which Redis refuses a script's first write,
-- is passed: the turn is written as a whole.
push(KEYS[1], ARGV, 11, #ARGV)
redis.call('HSET', KEYS[2], unpack(fields))
if meta[10] or meta[12] then redis.call('HDEL', KEYS[2], 'written', 'empty') end
if buried then
  redis.call('HDEL', KEYS[2], 'state', 'until') -- the purge stays known, should it be sent again
  redis.call('HINCRBY', KEYS[4], 'tombstones', -1)
end
return {'ok', int(length + #ARGV - 10)}
