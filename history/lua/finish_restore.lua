-- Finish a restore: put the staged messages before the messages that were written meanwhile.
-- Atomic: readers see either the live messages alone or the complete transcript.
-- Uses: clock, due, kind, memory, number, tally
-- Reads: restore_token, restore_until, epoch, restored_count, archived_count, state, owner, hold_pending, idle, max_age,
--   last_active, last_written, floor, tombstone_until, owner_assigned
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- KEYS[4] hash    tally
-- KEYS[5] list    staging
-- KEYS[6] set     the owner's sessions; present only with an owner
-- ARGV[1] session id
-- ARGV[2] token of the restore
-- ARGV[3] how many messages were staged
-- ARGV[4] default idle timeout (ms)
-- ARGV[5] default maximum age (ms) or ''
-- ARGV[6] created (ms) as the archive has it, or ''
-- ARGV[7] idle timeout (ms) likewise
-- ARGV[8] maximum age (ms) likewise
-- ARGV[9] retention in the archive (ms) likewise
-- ARGV[10] owner likewise
-- ARGV[11] how long (ms) to remember that a session has no messages anywhere, if a reader wakes it; '' not at all
-- Returns 'restored' | 'nothing' neither the archive nor Redis has a message | 'superseded' | 'lost'
--   | 'owner' what is in Redis is another owner's than what the archive has
--   | 'kind' one part is a chat, the other a thread
local session = read_session(KEYS[2])
if session.restore_token ~= ARGV[2] then return 'superseded' end
local staged = tonumber(ARGV[3])
if redis.call('LLEN', KEYS[5]) ~= staged then return 'lost' end
local live = redis.call('LLEN', KEYS[1])
local is_assigned = session.owner_assigned and ARGV[10] == ''
if staged > 0 and (live > 0 or session.owner) and (session.owner or '') ~= ARGV[10] and not is_assigned then return 'owner' end
if is_other_kind(KEYS[1], redis.call('LINDEX', KEYS[5], 0)) then return 'kind' end
local now_ms = clock_ms()

local function finish_without_messages()
  redis.call('HDEL', KEYS[2], FIELD.restore_token, FIELD.restore_until)
  -- A session in quarantine was there before. A legal hold that was set meanwhile has yet to be applied to the archive.
  if session.state == 'quarantined' or session.hold_pending then return end
  if ARGV[11] == '' and session.owner then -- it was assigned meanwhile: the worker takes it out of the owner's index
    session.restore_until = nil
    schedule(KEYS[3], ARGV[1], session, 0, now_ms)
  elseif ARGV[11] == '' then
    redis.call('UNLINK', KEYS[2])
    redis.call('ZREM', KEYS[3], ARGV[1])
  else -- the turn that begins now need not ask the archive again
    redis.call('HSET', KEYS[2], FIELD.complete, '1', FIELD.known_absent, '1')
    set_due(KEYS[3], ARGV[1], now_ms + tonumber(ARGV[11]))
  end
end

local function put_staged_first()
  note_count(KEYS[4], 'restored')
  note_count(KEYS[4], 'restored_messages', staged)
  if ARGV[11] ~= '' then note_count(KEYS[4], 'woken') end
  if live == 0 then note_came(KEYS[4], redis.call('LINDEX', KEYS[5], 0)) end
  for from = 0, live - 1, 1000 do
    redis.call('RPUSH', KEYS[5], unpack(redis.call('LRANGE', KEYS[1], from, from + 999)))
  end
  redis.call('UNLINK', KEYS[1]) -- RENAME would free a list that it replaces at once, however large it is
  redis.call('RENAME', KEYS[5], KEYS[1])
  redis.call('PERSIST', KEYS[1])
  redis.call('HSET', KEYS[2], FIELD.restored_count, int((session.restored_count or 0) + staged),
    FIELD.archived_count, int((session.archived_count or 0) + staged))
end

allow_at_memory_limit(KEYS[3])
if staged + live == 0 then
  finish_without_messages()
  return 'nothing'
end
-- The writes to keys of the owner and the shard come first. If one of these keys has a wrong type, the script fails
-- before a message has moved.
if KEYS[6] then redis.call('SADD', KEYS[6], ARGV[1]) end
if staged > 0 then put_staged_first() end
for index, field in ipairs({FIELD.created, FIELD.idle, FIELD.max_age, FIELD.retention, FIELD.owner}) do
  if ARGV[5 + index] ~= '' then redis.call('HSETNX', KEYS[2], field, ARGV[5 + index]) end
end
redis.call('HSET', KEYS[2], FIELD.complete, '1', FIELD.last_active, now_ms,
  FIELD.last_written, session.last_written or session.last_active or now_ms)
redis.call('HDEL', KEYS[2], FIELD.restore_token, FIELD.restore_until)
session = read_session(KEYS[2])
reschedule(KEYS[3], ARGV[1], session, staged + live, now_ms, ARGV[4], ARGV[5])
return 'restored'
