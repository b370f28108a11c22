-- Note when somebody was seen, and what it said of itself.
-- Atomic: a moment is Redis's own, and who was not seen for long is forgotten.
-- Uses: clock, number
-- KEYS[1] hash    seen
-- ARGV[1] how long (ms) a moment is kept
-- ARGV[2] who it is: 'beat', 'sweep', or 'worker:' and a name
-- ARGV[3...] field, value, ...
-- Returns 1
local now_ms = clock_ms()
redis.call('HDEL', KEYS[1], '') -- Redis allows a deletion at its memory limit, and then all writes
local is_new = redis.call('HSET', KEYS[1], 'seen:' .. ARGV[2], int(now_ms)) == 1
if #ARGV > 2 then redis.call('HSET', KEYS[1], unpack(ARGV, 3)) end
if not is_new then return 1 end
local fields = redis.call('HGETALL', KEYS[1])
for index = 1, #fields, 2 do
  local who = string.match(fields[index], '^seen:(.*)$')
  local seen_ms = who and tonumber(fields[index + 1])
  -- A moment that lies ahead was noted before the clock was set back.
  if seen_ms and math.abs(now_ms - seen_ms) > tonumber(ARGV[1]) then
    redis.call('HDEL', KEYS[1], fields[index], who)
  end
end
return 1
