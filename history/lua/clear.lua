-- Empty a session at once: a new epoch whose floor forbids all older ones to come back.
-- Atomic: no append, commit or restore sees the old messages without the old epoch.
-- The session is due now and is not archived before the worker has erased the older segments.
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- KEYS[4] hash    tally
-- KEYS[5] zset    quarantine
-- KEYS[6] string  requests that the session had seen when it left Redis
-- KEYS[7] hash    legal holds
-- ARGV[1] session
-- ARGV[2] request id, 8 bytes: the same for each sending of the same clear
-- ARGV[3] owner that the caller knows of, or ''
-- Returns {'cleared', epoch of the clear, 0 where that has left Redis since} | {'held', hold} | {'purged'}
local keep = redis.call('HMGET', KEYS[2], 'idle', 'max_age', 'retention', 'owner', 'epoch', 'seen', 'again', 'state')
local seen = keep[6] or redis.call('GET', KEYS[6])
if has_seen(seen, ARGV[2]) then return {'cleared', keep[5] or '0'} end
if keep[8] == 'purged' then return {'purged'} end
local hold = legal_hold(KEYS[7], ARGV[1], keep[4]) or (ARGV[3] ~= '' and legal_hold(KEYS[7], ARGV[1], ARGV[3]))
if hold then return {'held', hold} end
local epoch = int(next_epoch(KEYS[4], keep[5]))
local now = to_ms(now_us())
local now_ms = int(now)
-- A worker that holds the session may be uploading: what it leaves if it dies is looked for when its lease has ended.
local again = lease_end(KEYS[3], ARGV[1], keep[7], KEYS[2])
-- The deletion comes first: Redis allows it at its memory limit, and what follows it too.
redis.call('UNLINK', KEYS[1], KEYS[2])
set_due(KEYS[3], ARGV[1], now_ms)
redis.call('ZREM', KEYS[5], ARGV[1])
redis.call('HSET', KEYS[2], 'epoch', epoch, 'floor', epoch, 'whole', '1', 'active', now_ms,
  'seen', with_seen(seen, ARGV[2], now))
if again > now then redis.call('HSET', KEYS[2], 'again', int(again)) end
for index, name in ipairs({'idle', 'max_age', 'retention', 'owner'}) do
  if keep[index] then redis.call('HSET', KEYS[2], name, keep[index]) end
end
return {'cleared', epoch}
