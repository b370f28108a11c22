-- The health of the archive, as the workers see it.
-- Uses: number

-- Worker → what was noted for it: 'worked' and 'failed' in ms, 'error', 'failing'.
local function archive_notes(key)
  local notes, fields = {}, redis.call('HGETALL', key)
  for index = 1, #fields, 2 do
    local what, worker = string.match(fields[index], '^(%a+):(.*)$')
    if what then
      notes[worker] = notes[worker] or {}
      notes[worker][what] = fields[index + 1]
    end
  end
  return notes
end

-- Forget the workers that have noted nothing for `kept_ms`; true if another one has failed within `counts_ms`.
local function others_are_failing(key, now_ms, counts_ms, kept_ms)
  local failing = false
  for worker, note in pairs(archive_notes(key)) do
    local age_ms = now_ms - math.max(tonumber(note.worked) or 0, tonumber(note.failed) or 0)
    if age_ms > kept_ms then
      for what in pairs(note) do redis.call('HDEL', key, what .. ':' .. worker) end
    elseif note.failing and age_ms < counts_ms then
      failing = true
    end
  end
  return failing
end

-- Note that the archive has worked for a worker, or has failed with an error; returns 'unavailable' or 'available' if
-- that changes its state, and else ''. The archive is unavailable from the first failure on, until it works again for
-- each worker that has failed within `counts_ms`. Redis allows the deletion at its memory limit, and then all writes.
local function note_archive(key, worker, error, now_ms, counts_ms, kept_ms)
  redis.call('HDEL', key, 'failing:' .. worker)
  local since = redis.call('HGET', key, 'unavailable_since')
  if error ~= '' then
    redis.call('HSET', key, 'failed:' .. worker, int(now_ms), 'error:' .. worker, error, 'failing:' .. worker, 1)
    if since then return '' end
    redis.call('HSET', key, 'unavailable_since', int(now_ms))
    return 'unavailable'
  end
  local is_new = redis.call('HSET', key, 'worked:' .. worker, int(now_ms)) == 1
  if not (since or is_new) or others_are_failing(key, now_ms, counts_ms, kept_ms) or not since then return '' end
  redis.call('HDEL', key, 'unavailable_since')
  return 'available'
end
