-- Note the highest epoch that the archive has of a shard's sessions, so that every later epoch is above it.
-- Atomic: a session that leaves Redis at the same time may have a higher one.
-- Uses: epoch
-- KEYS[1] hash    tally
-- ARGV[1] epoch
-- Returns nothing
remember_epoch(KEYS[1], ARGV[1])
