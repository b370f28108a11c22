-- Note that the legal hold of an owner was released in all shards. One shard keeps the release.
-- Uses: clock, legal_hold
-- KEYS[1] hash    legal holds of the owner's own shard
-- ARGV[1] owner
-- ARGV[2] since when (ms) the hold was there
-- Returns 1
note_release(KEYS[1], 'owner', ARGV[1], ARGV[2], clock_ms())
return 1
