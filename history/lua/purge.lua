-- Purge a session: empty at once and for good. A tombstone refuses what comes late, and forbids all epochs in the archive.
-- Atomic: no append, commit or restore comes between the look at the holds and the deletion.
-- The worker erases the archived part, and looks once more when the tombstone ends and goes.
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- KEYS[4] hash    tally
-- KEYS[5] zset    quarantine
-- KEYS[6] string  requests that the session had seen when it left Redis
-- KEYS[7] hash    legal holds
-- KEYS[8] set     the owner's sessions; present only with an owner
-- ARGV[1] session
-- ARGV[2] id of the purge: the same each time that this purge comes to the session
-- ARGV[3] how long (ms) the tombstone stands
-- ARGV[4] how long (ms) the session must have been idle, '' for any time
-- ARGV[5] owner of the session as the caller saw it in Redis, or ''
-- ARGV[6...] owners that the archive has it for
-- Returns {'purged', floor, messages removed} | {'held', hold} | {'active'} used too lately | {'changed'} another owner
local keep = redis.call('HMGET', KEYS[2], 'epoch', 'state', 'purge', 'again', 'seen', 'active', 'owner', 'removed')
local purged = keep[2] == 'purged'
-- Also where the session has begun anew since.
if keep[3] == ARGV[2] then return {'purged', keep[1], keep[8] or '0'} end
if (keep[7] or '') ~= ARGV[5] then return {'changed'} end
local hold = legal_hold(KEYS[7], ARGV[1], keep[7])
for index = 6, #ARGV do hold = hold or legal_hold(KEYS[7], ARGV[1], ARGV[index]) end
if hold then return {'held', hold} end
local now = to_ms(now_us())
if ARGV[4] ~= '' and not purged and keep[6] and tonumber(keep[6]) > now - tonumber(ARGV[4]) then return {'active'} end
local epoch = int(next_epoch(KEYS[4], keep[1]))
local length = redis.call('LLEN', KEYS[1])
local seen = keep[5] or redis.call('GET', KEYS[6])
local until_ms = now + tonumber(ARGV[3])
-- The worker looks again when a lease that is running now has ended: what it uploads may come after the first look.
local again = lease_end(KEYS[3], ARGV[1], keep[4], KEYS[2])
-- The deletion comes first: Redis allows it at its memory limit, and what follows it too.
redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[6])
if KEYS[8] then redis.call('SREM', KEYS[8], ARGV[1]) end
redis.call('ZREM', KEYS[5], ARGV[1])
set_due(KEYS[3], ARGV[1], math.max(until_ms, again))
redis.call('HSET', KEYS[2], 'epoch', epoch, 'floor', epoch, 'whole', '1', 'active', int(now), 'state', 'purged',
  'purge', ARGV[2], 'until', int(math.max(until_ms, again)), 'removed', int(length))
if again > now then redis.call('HSET', KEYS[2], 'again', int(again)) end
if seen then redis.call('HSET', KEYS[2], 'seen', seen) end
if not purged then redis.call('HINCRBY', KEYS[4], 'tombstones', 1) end
return {'purged', epoch, int(length)}
