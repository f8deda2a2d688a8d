-- Moves what is due in one queue into its lists.
-- KEYS: sorted set, plain list, bell. ARGV: time, limit, separator. Returns how many were moved.
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
if #due == 0 then return 0 end
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, #due - 1)
for _, member in ipairs(due) do
    local cut = string.find(member, '\n', 1, true)
    local label = string.sub(member, 1, cut - 1)
    redis.call('LPUSH', label == '' and KEYS[2] or KEYS[2] .. ARGV[3] .. label, string.sub(member, cut + 1))
end
if redis.call('EXISTS', KEYS[3]) == 0 then
    redis.call('LPUSH', KEYS[3], '1')
    redis.call('PEXPIRE', KEYS[3], 10000)
end
return #due
