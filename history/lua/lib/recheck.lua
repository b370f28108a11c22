-- When an erasure must look at the archive a second time.
-- Uses: lease

-- The end (ms) of the last lease under which a worker may still upload, or the `noted` moment if that is later; 0 if
-- there is neither. A write, a close or a legal hold overwrites the lease in the due index, but the worker goes on with
-- its upload. So the token of the attempt in the metadata counts as well.
local function next_recheck(due_key, session_id, metadata_key, noted)
  local recheck_ms = tonumber(noted or 0)
  local score = redis.call('ZSCORE', due_key, session_id) or '0'
  for _, token in ipairs({score, redis.call('HGET', metadata_key, FIELD.attempt) or '0'}) do
    if is_lease(token) then recheck_ms = math.max(recheck_ms, tonumber(token) + 0.5) end
  end
  return recheck_ms
end
