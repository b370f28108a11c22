-- Add events to the deployment's stream, which keeps about the newest ones, add what a process has measured since it last
-- did so, and note whether the archive has worked for a worker. If that changes the archive's state, the stream gets an event of it too.
-- Atomic: the events of a call stand together, in their order. Of several workers that see the same change of the
-- archive one records it.
-- Uses: archive_health, clock
-- KEYS[1] stream  events
-- KEYS[2] hash    archive health
-- KEYS[3] hash    measures
-- ARGV[1] how many events to keep
-- ARGV[2] the worker, '' if nothing is noted of the archive
-- ARGV[3] the archive's error, '' if it has worked
-- ARGV[4] how long (ms) a failure counts if its worker notes nothing more
-- ARGV[5] how long (ms) the notes of a worker are kept
-- ARGV[6] the number of measures
-- ARGV[7...] for each measure its field and what is added; then for each event the number of its parts, then field, value,
--   ...
-- Returns 'unavailable' | 'available' if the state of the archive has changed, else ''
local function to_stream(...) redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', ...) end

local change = ''
if ARGV[2] ~= '' then
  change = note_archive(KEYS[2], ARGV[2], ARGV[3], clock_ms(), tonumber(ARGV[4]), tonumber(ARGV[5]))
end
if change == 'unavailable' then
  to_stream('kind', 'archive.unavailable', 'error', ARGV[3], 'worker', ARGV[2])
elseif change == 'available' then
  to_stream('kind', 'archive.available', 'worker', ARGV[2])
end
redis.call('HDEL', KEYS[3], '') -- Redis allows a deletion at its memory limit, and then all writes
local from = 7 + 2 * tonumber(ARGV[6])
for index = 7, from - 1, 2 do
  local added = redis.pcall('HINCRBY', KEYS[3], ARGV[index], ARGV[index + 1])
  -- A field that is no number stays as it is, and the others count: whoever reads the measures names it.
  if type(added) == 'table' and not string.find(added.err, 'not an integer', 1, true) then return added end
end
while from <= #ARGV do
  local parts = tonumber(ARGV[from])
  to_stream(unpack(ARGV, from + 1, from + parts))
  from = from + 1 + parts
end
return change
