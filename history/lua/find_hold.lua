-- Find the legal hold that keeps a session: its own, or that of an owner it has or had.
-- Uses: legal_hold
-- KEYS[1] hash    legal holds
-- ARGV[1] session id, '' for the holds of the owners alone
-- ARGV[2...] owners
-- Returns the hold, 'since (ms):reason', or ''
return legal_hold_of_any(KEYS[1], ARGV[1], nil, ARGV, 2) or ''
