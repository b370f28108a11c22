-- Put before every script. Time is Redis TIME; scripts replicate by effects, so reading it is safe (Redis 5.0).

-- Microseconds since 1970 (below 2^53, so exact in a double).
local function now_us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

local function to_ms(us) return math.floor(us / 1000) end

-- A whole number as text: tostring() would switch to an exponent.
local function int(number) return string.format('%.0f', number) end

-- A fresh epoch, above `previous` and above every epoch that has left this shard, whatever the clock did.
local function next_epoch(tally_key, previous)
  local highest = tonumber(redis.call('HGET', tally_key, 'epoch') or 0)
  return math.max(now_us(), highest + 1, (tonumber(previous) or 0) + 1)
end

-- Set the moment (ms) at which the worker must look at a session. Where it is the first of its shard, those who
-- subscribe to the due key's name are told. It is a hint, so a user who may not publish can write all the same.
local function set_due(due_key, session, due_ms)
  due_ms = int(due_ms)
  redis.call('ZADD', due_key, due_ms, session)
  if redis.call('ZRANK', due_key, session) == 0 then redis.pcall('PUBLISH', due_key, due_ms) end
end

-- Score a session for activity at `active_ms`: active + idle timeout, or born + maximum age if sooner.
-- An epoch is also the moment (us) at which the session last came into Redis.
-- With `now_ms`, a moment that moves further ahead is not told: whoever listens has planned the nearer one, looks at the
-- shard then, and finds this one. What was overdue or leased is in nobody's plan.
local function schedule(due_key, session, active_ms, epoch, idle_ms, max_age_ms, now_ms)
  local due = active_ms + tonumber(idle_ms)
  if max_age_ms and max_age_ms ~= '' then
    due = math.min(due, to_ms(tonumber(epoch)) + tonumber(max_age_ms))
  end
  local before = now_ms and tonumber(redis.call('ZSCORE', due_key, session) or 0)
  if before and before > now_ms and before <= due and before % 1 == 0 then
    redis.call('ZADD', due_key, int(due), session)
  else
    set_due(due_key, session, due)
  end
end

-- Is the session's score still the token of this claim?
local function holds(due_key, session, token)
  local score = redis.call('ZSCORE', due_key, session)
  return score and tonumber(score) == tonumber(token)
end

-- The legal hold of a session, its own or its owner's: 'since (ms):reason', or false.
local function legal_hold(holds_key, session, owner)
  return redis.call('HGET', holds_key, 's' .. session) or (owner and redis.call('HGET', holds_key, 'o' .. owner))
end

-- When an erasure must look again (ms): the end of a lease that is running, or what was noted before; 0 for neither.
-- A write, a close or a hold takes the lease from the score, and the worker uploads on: the attempt that it has begun
-- is named by the token of its claim.
local function lease_end(due_key, session, noted, metadata_key)
  local last = tonumber(noted or 0)
  local score = redis.call('ZSCORE', due_key, session)
  for _, token in ipairs({score or '0', redis.call('HGET', metadata_key, 'attempt') or '0'}) do
    if tonumber(token) % 1 ~= 0 then last = math.max(last, tonumber(token) + 0.5) end
  end
  return last
end

-- Remember the epoch of a session that leaves Redis, so that the next one is above it.
local function leave(tally_key, epoch)
  local highest = tonumber(redis.call('HGET', tally_key, 'epoch') or 0)
  if tonumber(epoch) > highest then redis.call('HSET', tally_key, 'epoch', epoch) end
end

-- Let this script write at the memory limit: Redis refuses only a script's first write there, and a deletion is none.
-- For what makes room, and for what needs next to none. No session id is empty, so nothing is deleted.
local function allow_at_memory_limit(due_key) redis.call('ZREM', due_key, '') end

-- Run `look` with the keys of each shard, `width` of them, and return what it tells of one after the other. An error of
-- one shard stands in its place and keeps nothing from the others; where all have failed, it is the script's.
local function each_shard(width, look)
  local replies, failed = {}, 0
  for first = 1, #KEYS, width do
    local done, reply = pcall(look, {unpack(KEYS, first, first + width - 1)})
    if not done then
      failed = failed + 1
      reply = {err = type(reply) == 'table' and reply.err or reply}
    end
    replies[#replies + 1] = reply
  end
  return failed == #replies and replies[1] or replies
end

-- A session remembers the requests of the last minute, 64 at most, since redis-py sends a request again when its reply
-- is lost. Each is 10 bytes, the request's id and the moment in which it was done, in steps of 4 s modulo 65536: six of
-- them fit into the 64 bytes up to which Redis packs a hash (hash-max-listpack-value), in half the memory.
local RETRY_WINDOW_S = 60
local function has_seen(seen, request)
  return seen and string.find(seen, request, 1, true)
end
local function with_seen(seen, request, now_ms)
  local now = math.floor(now_ms / 4000) % 65536
  local kept = string.sub(seen or '', -10 * 63)
  -- What is of the coming 36 hours was done before the clock was set back.
  local function age_s()
    local high, low = string.byte(kept, 9, 10)
    return ((now - 256 * high - low + 32768) % 65536 - 32768) * 4
  end
  while #kept >= 10 and age_s() > RETRY_WINDOW_S do kept = string.sub(kept, 11) end
  return kept .. request .. string.char(math.floor(now / 256), now % 256)
end

-- RPUSH values[first..last] in batches, since unpack() is limited by Lua's stack. Returns the list's length; nil where
-- there is nothing to push.
local function push(list_key, values, first, last)
  local length
  for from = first, last, 1000 do
    length = redis.call('RPUSH', list_key, unpack(values, from, math.min(from + 999, last)))
  end
  return length
end

-- Add messages [from, stop) of a list to a reply, until about `limit` bytes are read. Positions count from the oldest
-- message on; `reversed` is how many there are in a list that has the newest one first.
local function add_page(reply, list_key, from, stop, limit, reversed)
  local size = 0
  -- Ever larger steps, so that a page of large messages does not read many more than it takes.
  local step = 16
  while from < stop and size < limit do
    local upto = math.min(from + step, stop)
    local first = reversed and reversed - upto or from
    local messages = redis.call('LRANGE', list_key, int(first), int(first + upto - from - 1))
    for index = 1, #messages do
      local message = messages[reversed and #messages + 1 - index or index]
      reply[#reply + 1] = message
      size = size + #message
      if size >= limit then break end
    end
    from, step = upto, math.min(2 * step, 100)
  end
  return reply
end

-- May nothing be written to a session, since a purge has left its tombstone?
local function is_buried(state, until_ms, allow_reuse)
  return state == 'purged' and allow_reuse ~= '1' and tonumber(until_ms) > to_ms(now_us())
end

-- Append values[first...] to a session, creating it where it is not in Redis; counts as activity. `given` and the reply
-- are the arguments and the reply of append.lua, by name; without a request the caller knows what was sent already.
local function append(keys, given, values, first)
  local meta = redis.call('HMGET', keys.metadata, 'epoch', 'idle', 'max_age', 'owner', 'state', 'floor', 'seen', 'until',
    'retention', 'written', 'holding', 'empty')
  local epoch, idle, max_age, owner = meta[1], meta[2], meta[3], meta[4]
  local seen = meta[7]
  if not epoch and not seen then seen = redis.call('GET', keys.seen) end
  if given.request and has_seen(seen, given.request) then return {'ok', redis.call('LLEN', keys.messages)} end
  local now_ms = to_ms(now_us())
  local buried = meta[5] == 'purged'
  if is_buried(meta[5], meta[8], given.allow_reuse) then return {'purged'} end
  if epoch and not (buried or meta[12]) and given.only_new == '1' then return {'exists'} end
  if owner and given.owner ~= '' and owner ~= given.owner then return {'owner'} end

  local fields = {'active', int(now_ms)}
  local function set(name, value) fields[#fields + 1] = name; fields[#fields + 1] = value end
  if given.request then
    set('seen', with_seen(seen, given.request, now_ms))
  elseif seen then
    set('seen', seen)
  end
  -- Where the metadata was lost, nothing tells which messages the archive has: no epoch, until the worker finds it so.
  local damaged = not epoch and redis.call('LLEN', keys.messages) > 0
  if not epoch and not damaged then
    epoch = int(next_epoch(keys.tally))
    set('epoch', epoch)
  end
  if not idle and given.idle ~= '' then idle = given.idle; set('idle', idle) end
  if not max_age and given.max_age ~= '' then max_age = given.max_age; set('max_age', max_age) end
  if not meta[9] and given.retention ~= '' then set('retention', given.retention) end
  if not owner and given.owner ~= '' then
    set('owner', given.owner)
    redis.call('SADD', keys.owner, given.session)
  end
  -- A quarantined session waits for a person, a cleared one is due until its archive is erased, and one whose legal hold
  -- has changed until its objects are seen to.
  if damaged then
    if meta[5] ~= 'quarantined' then set_due(keys.due, given.session, now_ms) end
  elseif buried then
    set_due(keys.due, given.session, now_ms)
  elseif meta[5] ~= 'quarantined' and not (meta[6] or meta[11]) then
    schedule(keys.due, given.session, now_ms, epoch, idle or given.default_idle, max_age or given.default_max_age,
      now_ms)
  end
  -- By now every key has proved to be of its type, and the memory limit, at which Redis refuses a script's first write,
  -- is passed: the turn is written as a whole.
  local length = push(keys.messages, values, first, #values) or redis.call('LLEN', keys.messages)
  redis.call('HSET', keys.metadata, unpack(fields))
  if meta[10] or meta[12] then redis.call('HDEL', keys.metadata, 'written', 'empty') end
  if buried then
    redis.call('HDEL', keys.metadata, 'state', 'until') -- the purge stays known, should it be sent again
    redis.call('HINCRBY', keys.tally, 'tombstones', -1)
  end
  return {'ok', length}
end
