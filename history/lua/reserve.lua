-- Reserve the next places of a rate that several processes keep together.
-- Atomic: no two processes get the same place.
-- Uses: clock, number
-- KEYS[1] string  the moment (us) of the place after the last one that was reserved; expires
-- ARGV[1] the time (us) between two places
-- ARGV[2] how many places
-- ARGV[3] the most places that may be reserved ahead; more were reserved before the clock was set back
-- Returns the time (us) until the first of them
local now_us = clock_us()
local step_us = tonumber(ARGV[1])
local first_us = tonumber(redis.call('GET', KEYS[1]) or 0)
if first_us < now_us or first_us > now_us + step_us * tonumber(ARGV[3]) then first_us = now_us end
local further_us = first_us + step_us * tonumber(ARGV[2])
redis.call('SET', KEYS[1], int(further_us), 'PX', math.ceil((further_us - now_us) / 1000) + 1000)
return math.floor(first_us - now_us)
