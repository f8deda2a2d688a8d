-- Renews leases, and the marks by which Celery's workers see that a message is in good hands.
-- KEYS: unacked, unacked_index, leases. ARGV: lease, tags ...
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local stamp, expiry = string.format('%.6f', now), string.format('%.6f', now + tonumber(ARGV[1]))
for at = 2, #ARGV do
    -- Removed before it is added again: a full server refuses a script that begins with adding.
    if redis.call('HEXISTS', KEYS[1], ARGV[at]) == 1 and redis.call('ZREM', KEYS[3], ARGV[at]) == 1 then
        redis.call('ZADD', KEYS[3], expiry, ARGV[at])
        redis.call('ZADD', KEYS[2], 'XX', stamp, ARGV[at])
    end
end
return 1
