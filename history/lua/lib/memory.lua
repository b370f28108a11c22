-- The memory limit of the server.

-- Let this script write at the memory limit, where Redis refuses the first write of a script unless it is a deletion.
-- For scripts that free memory or need almost none. No session id is empty, so nothing is deleted.
local function allow_at_memory_limit(due_key) redis.call('ZREM', due_key, '') end
