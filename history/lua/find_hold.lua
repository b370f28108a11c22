-- Find the legal hold that keeps a session: its own, or that of an owner it has or had.
-- KEYS[1] hash    legal holds
-- ARGV[1] session
-- ARGV[2...] owners
-- Returns the hold, 'since (ms):reason', or ''
local hold = legal_hold(KEYS[1], ARGV[1])
for index = 2, #ARGV do hold = hold or legal_hold(KEYS[1], ARGV[1], ARGV[index]) end
return hold or ''
