-- Numbers as text.

-- A whole number as digits, for replies and for `..`; tostring() would write a large one with an exponent.
-- A number that is an argument of redis.call needs no int(): Redis writes it with 17 digits.
local function int(number) return string.format('%.0f', number) end
