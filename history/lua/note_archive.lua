-- Note that the archive has worked for a worker, or has failed, and tell whether this changes the archive's state.
-- It is unavailable from the first failure on, until each worker that has failed lately sees it work again.
-- Atomic: of several workers that see the same change one is told of it. A note that is sent twice gets the same answer.
-- Uses: clock, number
-- KEYS[1] hash    archive health
-- ARGV[1] worker
-- ARGV[2] id of the note
-- ARGV[3] the error, '' if the archive has worked
-- ARGV[4] how long (ms) a failure counts if its worker notes nothing more
-- ARGV[5] how long (ms) the notes of a worker are kept
-- Returns 'unavailable' | 'available' since this note | '' nothing has changed
local noted = redis.call('HMGET', KEYS[1], 'change', 'unavailable_since', 'w' .. ARGV[1])
local change = noted[1] or ''
if string.sub(change, 1, #ARGV[2]) == ARGV[2] then return string.sub(change, #ARGV[2] + 1) end
local now_ms = clock_ms()
local worked, failed, error = string.match(noted[3] or '0:0:', '^(%d+):(%d+):(.*)$')
if ARGV[3] == '' then worked = int(now_ms) else failed, error = int(now_ms), ARGV[3] end
redis.call('HDEL', KEYS[1], '')  -- a deletion of nothing, so that the notes can be written at the memory limit
redis.call('HSET', KEYS[1], 'w' .. ARGV[1], table.concat({worked, failed, error}, ':'))

local is_down = ARGV[3] ~= ''
local notes = redis.call('HGETALL', KEYS[1])
for index = 1, #notes, 2 do
  local field, last_worked, last_failed = notes[index], string.match(notes[index + 1], '^(%d+):(%d+):')
  if string.sub(field, 1, 1) == 'w' and field ~= 'w' .. ARGV[1] then
    if now_ms - math.max(last_worked, last_failed) > tonumber(ARGV[5]) then
      redis.call('HDEL', KEYS[1], field)
    elseif tonumber(last_failed) > tonumber(last_worked) and now_ms - last_failed < tonumber(ARGV[4]) then
      is_down = true
    end
  end
end
if is_down == (noted[2] ~= false) then return '' end
local state = is_down and 'unavailable' or 'available'
if is_down then
  redis.call('HSET', KEYS[1], 'unavailable_since', int(now_ms))
else
  redis.call('HDEL', KEYS[1], 'unavailable_since')
end
redis.call('HSET', KEYS[1], 'change', ARGV[2] .. state)
return state
