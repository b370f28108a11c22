-- Scripts that look at several shards.

-- Run `look` with the keys of each shard, `width` of them, and return its replies in the order of the shards.
-- If one shard fails, its error stands in its place, and the others have their replies. If all fail, the script fails.
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
