-- Take back a session's last message: a new epoch with a floor, since within an epoch nothing shrinks.
-- Atomic: as a clear, but for the messages that remain, and only in the state in which the caller has read that message.
-- The session is due now and is not archived before the worker has erased the older segments.
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- KEYS[4] hash    tally
-- KEYS[5] zset    quarantine
-- KEYS[6] string  requests that the session had seen when it left Redis
-- KEYS[7] hash    legal holds
-- ARGV[1] session
-- ARGV[2] request id, 8 bytes: the same for each sending of the same pop
-- ARGV[3] epoch that was read
-- ARGV[4] how many messages it had
-- ARGV[5] owner that the caller knows of, or ''
-- Returns {'popped'}, also where there was nothing to take back | {'moved'} another epoch or number of messages
--   | {'partial'} something may be in the archive alone, which a floor would forbid | {'held', hold} | {'purged'}
local keep = redis.call('HMGET', KEYS[2], 'epoch', 'seen', 'state', 'whole', 'owner', 'again')
local seen = keep[2] or redis.call('GET', KEYS[6])
if has_seen(seen, ARGV[2]) then return {'popped'} end
if keep[3] == 'purged' then return {'purged'} end
if (keep[1] or '0') ~= ARGV[3] or redis.call('LLEN', KEYS[1]) ~= tonumber(ARGV[4]) then return {'moved'} end
if not keep[4] then return {'partial'} end
if ARGV[4] == '0' then return {'popped'} end
local hold = legal_hold(KEYS[7], ARGV[1], keep[5]) or (ARGV[5] ~= '' and legal_hold(KEYS[7], ARGV[1], ARGV[5]))
if hold then return {'held', hold} end
local now = to_ms(now_us())
local epoch = int(next_epoch(KEYS[4], keep[1]))
-- A worker that holds the session may be uploading: what it leaves if it dies is looked for when its lease has ended.
local again = lease_end(KEYS[3], ARGV[1], keep[6], KEYS[2])
-- It comes first: Redis allows a deletion at its memory limit, and it fails where the key is no longer of its type.
redis.call('ZREM', KEYS[5], ARGV[1])
redis.call('RPOP', KEYS[1])
redis.call('HDEL', KEYS[2], 'base', 'archived', 'attempt', 'attempts', 'error', 'state', 'written')
redis.call('HSETNX', KEYS[2], 'created', int(to_ms(tonumber(keep[1]))))
redis.call('HSET', KEYS[2], 'epoch', epoch, 'floor', epoch, 'active', int(now), 'seen', with_seen(seen, ARGV[2], now))
if again > now then redis.call('HSET', KEYS[2], 'again', int(again)) end
set_due(KEYS[3], ARGV[1], now)
return {'popped'}
