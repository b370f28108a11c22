-- Record the identity of a deployment and the URL of its archive, if Redis still has those that the caller has seen.
-- Another identity begins a fence of its own.
-- Atomic: of two users who record another identity at once, one succeeds, and the other one learns it.
-- KEYS[1] hash    the deployment's configuration
-- ARGV[1] the identity that was seen, '' for none
-- ARGV[2] the URL that was seen, '' for none
-- ARGV[3] the identity to record
-- ARGV[4] the URL to record, '' for none
-- Returns 1, or 0 if there is another identity or URL by now
local known = redis.call('HMGET', KEYS[1], 'deployment', 'archive')
local function is_known(identity, url) return (known[1] or '') == identity and (known[2] or '') == url end
if is_known(ARGV[3], ARGV[4]) then return 1 end -- sent again
if not is_known(ARGV[1], ARGV[2]) then return 0 end
redis.call('HDEL', KEYS[1], '') -- at its memory limit, Redis lets a script write that begins with a deletion
if known[1] ~= ARGV[3] then redis.call('HDEL', KEYS[1], 'fence') end
redis.call('HSET', KEYS[1], 'deployment', ARGV[3])
if ARGV[4] == '' then redis.call('HDEL', KEYS[1], 'archive') else redis.call('HSET', KEYS[1], 'archive', ARGV[4]) end
return 1
