-- Read a page of messages; with touch it counts as activity.
-- Atomic: the page and the state (epoch, base, total) that it belongs to are of one moment.
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- ARGV[1] session
-- ARGV[2] '1' to count as activity
-- ARGV[3] default idle timeout (ms)
-- ARGV[4] default maximum age (ms) or ''
-- ARGV[5] first position; a negative one counts from the end
-- ARGV[6] position after the last one, '' for the end of the list
-- ARGV[7] page size (bytes): the page ends with the message that reaches it
-- ARGV[8] page size (messages)
-- Returns {epoch, base, total, '1' where nothing is in the archive alone, first position, message...} | {} not in Redis
local total = redis.call('LLEN', KEYS[1])
local meta = redis.call('HMGET', KEYS[2], 'epoch', 'base', 'idle', 'max_age', 'state', 'floor', 'active', 'whole',
  'holding', 'written')
if not meta[1] and total == 0 then return {} end
if ARGV[2] == '1' and meta[1] and meta[5] ~= 'purged' then
  local now_ms = to_ms(now_us())
  allow_at_memory_limit(KEYS[3])
  redis.call('HSET', KEYS[2], 'active', int(now_ms), 'written', meta[10] or meta[7] or int(now_ms))
  -- One without messages, that a wake has left, goes when it was to go.
  if total > 0 and meta[5] ~= 'quarantined' and not (meta[6] or meta[9]) then
    schedule(KEYS[3], ARGV[1], now_ms, meta[1], meta[3] or ARGV[3], meta[4] or ARGV[4], now_ms)
  end
end
local from = tonumber(ARGV[5])
if from < 0 then from = math.max(0, total + from) end
local whole = meta[8] or (meta[5] == 'purged' and '1') or '0'
local reply = {meta[1] or '0', meta[2] or '0', int(total), whole, int(from)}
local stop = math.min(tonumber(ARGV[6]) or total, total, from + tonumber(ARGV[8]))
return add_page(reply, KEYS[1], from, stop, tonumber(ARGV[7]))
