-- Numbers as text.

-- A whole number as digits; tostring() would write a large one with an exponent.
local function int(number) return string.format('%.0f', number) end
