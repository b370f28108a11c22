-- Read what the processes of the deployment have measured, and who was seen when.
-- Uses: clock, number
-- KEYS[1] hash    measures
-- KEYS[2] hash    seen
-- Returns {now ms, {field, value, ...} of the measures, {field, value, ...} of who was seen}
return {int(clock_ms()), redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2])}
