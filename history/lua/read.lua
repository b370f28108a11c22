-- Read a page of messages; it can count as activity.
-- Atomic: the page and the state that it belongs to (epoch, restored count, total) are from the same moment.
-- Uses: activity, number, owner, page
-- Reads: epoch, restored_count, idle, max_age, state, floor, last_active, complete, hold_pending, last_written,
--   restore_until, tombstone_until, owner
-- KEYS[1] list    messages
-- KEYS[2] hash    metadata
-- KEYS[3] zset    due
-- ARGV[1] session id
-- ARGV[2] '1' to count as activity
-- ARGV[3] default idle timeout (ms)
-- ARGV[4] default maximum age (ms) or ''
-- ARGV[5] first position; a negative one counts from the end
-- ARGV[6] position after the last one, '' for the end of the list
-- ARGV[7] page size (bytes): the page ends with the message that reaches it
-- ARGV[8] page size (messages)
-- ARGV[9] caller
-- Returns {epoch, restored count, total, '1' if no part is in the archive alone, first position, message...}
--   | {} not in Redis | {'owner'} another owner's session | {'unowned'}
local total = redis.call('LLEN', KEYS[1])
local session = read_session(KEYS[2])
if not session.epoch and total == 0 then return {} end
local refused = refused_caller(session.owner, ARGV[9], KEYS[1])
if refused then return refused end
if ARGV[2] == '1' then note_read(KEYS[2], KEYS[3], ARGV[1], session, total, ARGV[3], ARGV[4]) end
local from = tonumber(ARGV[5])
if from < 0 then from = math.max(0, total + from) end
local complete = (session.complete or session.state == 'purged') and '1' or '0'
local reply = {session.epoch or '0', session.restored_count or '0', int(total), complete, int(from)}
local stop = math.min(tonumber(ARGV[6]) or total, total, from + tonumber(ARGV[8]))
return add_page(reply, KEYS[1], from, stop, tonumber(ARGV[7]))
