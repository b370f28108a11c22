-- Epochs. A session gets a higher one when it comes into Redis, and when its older epochs in the archive are forbidden.
-- An epoch is also the moment (us) of that.
-- Uses: clock

-- The highest epoch that a session had when it left this shard.
local function highest_epoch(tally_key) return tonumber(redis.call('HGET', tally_key, 'epoch') or 0) end

-- A new epoch, above `previous` and above every epoch that has left this shard, even if the clock was set back.
local function next_epoch(tally_key, previous)
  return math.max(clock_us(), highest_epoch(tally_key) + 1, (tonumber(previous) or 0) + 1)
end

-- Remember the epoch of a session that leaves Redis, so that the next epoch is above it.
local function remember_epoch(tally_key, epoch)
  if tonumber(epoch) > highest_epoch(tally_key) then redis.call('HSET', tally_key, 'epoch', epoch) end
end
