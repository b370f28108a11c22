-- Begin an attempt at a claimed session: count the attempt, describe the session, and read its first messages that are not
-- archived. A restore that was still running ends: its token goes, so it can't finish any more. Only an attempt that
-- applies a legal hold lets it go on.
-- Atomic: the description and the messages are of the state that the lease protects, and an attempt that is begun twice is
-- counted once.
-- Uses: clock, kind, lease, legal_hold, memory, number, page, waiting
-- Reads: hold_pending, restore_until, attempt, attempts, owner, waiting_since, floor, archived_count
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- KEYS[4] hash    legal holds
-- ARGV[1] session id
-- ARGV[2] token
-- ARGV[3] token with which the session was claimed; it names the attempt
-- ARGV[4] due score before that
-- ARGV[5] '1' to describe the session alone if earlier attempts at it have failed or not ended
-- ARGV[6] how many bytes of messages at most
-- ARGV[7] how many messages at most
-- Returns {begun '1' | '0', {now ms, length, score, hold or '', kind or '', field, value, ...}, message...}
--   | {} the lease is lost, or the session is gone
if not owns_lease(KEYS[3], ARGV[1], ARGV[2]) then return {} end
local length = redis.call('LLEN', KEYS[1])
if length == 0 and redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('ZREM', KEYS[3], ARGV[1])
  return {}
end
local session, now_ms = read_session(KEYS[2]), clock_ms()

local function described()
  local hold = legal_hold(KEYS[4], ARGV[1], session.owner) or ''
  return {int(now_ms), int(length), ARGV[2], hold, kind_of(KEYS[1]), unpack(redis.call('HGETALL', KEYS[2]))}
end

if session.attempt ~= ARGV[3] then
  if ARGV[5] == '1' and tonumber(session.attempts or 0) > 0 then return {'0', described()} end
  local since = waiting_since(session.waiting_since, ARGV[4], now_ms)
  allow_at_memory_limit(KEYS[3])
  redis.call('HSET', KEYS[2], FIELD.attempt, ARGV[3], FIELD.waiting_since, since)
  redis.call('HINCRBY', KEYS[2], FIELD.attempts, 1)
end
if not (session.hold_pending and tonumber(session.restore_until or 0) > now_ms) then
  redis.call('HDEL', KEYS[2], FIELD.restore_token, FIELD.restore_until)
end
local reply = {'1', described()}
if session.floor or session.hold_pending then return reply end -- this attempt sends nothing
local from = tonumber(session.archived_count or 0)
return add_page(reply, KEYS[1], from, math.min(length, from + tonumber(ARGV[7])), tonumber(ARGV[6]), nil, true)
