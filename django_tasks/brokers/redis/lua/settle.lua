-- Ends the holding of some messages. What is no longer held is passed over.
--
-- KEYS: unacked, unacked_index, leases.
-- ARGV: 'now' ('' or a time: only leases that have lapsed by then), number of tags to forget, these tags ...,
--       then for each message that goes back: tag, list or sorted set, due time ('' for a list), what is put there, bell ('' for none).
-- Returns how many went back.
local lapsed, forgotten = ARGV[1], tonumber(ARGV[2])
local at = 3
while at < 3 + forgotten do
    local upto = math.min(at + 999, 2 + forgotten)
    redis.call('HDEL', KEYS[1], unpack(ARGV, at, upto))
    redis.call('ZREM', KEYS[2], unpack(ARGV, at, upto))
    redis.call('ZREM', KEYS[3], unpack(ARGV, at, upto))
    at = upto + 1
end

local back = 0
while at <= #ARGV do
    local tag, key, due, value, bell = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
    local score = lapsed ~= '' and redis.call('ZSCORE', KEYS[3], tag) or nil
    if not score or tonumber(score) <= tonumber(lapsed) then
        -- Freeing comes first: a full server then lets the script write.
        if redis.call('HDEL', KEYS[1], tag) == 1 then
            back = back + 1
            if due == '' then
                redis.call('RPUSH', key, value)
                if bell ~= '' and redis.call('EXISTS', bell) == 0 then
                    redis.call('LPUSH', bell, '1')
                    redis.call('PEXPIRE', bell, 10000)
                end
            else
                redis.call('ZADD', key, due, value)
            end
        end
        redis.call('ZREM', KEYS[2], tag)
        redis.call('ZREM', KEYS[3], tag)
    end
    at = at + 5
end
return back
