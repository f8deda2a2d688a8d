-- Promotes what is due in some queues, then takes up to a limit of messages, the best list first.
--
-- KEYS: unacked, unacked_index, leases.
-- ARGV: limit, holder, last number, lease, first queue, bytes, promoted at once,
--       key prefix, separator, prefix of delayed sets, prefix of bells, number of labels, labels ..., queue and its JSON text ...
-- Returns: seconds until the next delayed message is due ('inf' if there is none, '' if the lists may hold more), then for each list that gave something
-- {place of the queue, label, envelope, ...}. Tags are holder:number:label, numbered in the order of the reply.
--
-- The first write of a script must be one that frees memory: a full server then lets it write the rest.
local limit, holder, number, lease = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local first, room, promoted = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local prefix, sep, delayed, bell = ARGV[8], ARGV[9], ARGV[10], ARGV[11]
local labels = tonumber(ARGV[12])
local queues = (#ARGV - 12 - labels) / 2
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local stamp, expiry = string.format('%.6f', now), string.format('%.6f', now + lease)

local function name(place) return ARGV[12 + labels + 2 * place - 1] end
local function list(place, label)
    if label == '' then return prefix .. name(place) end
    return prefix .. name(place) .. sep .. label
end

for place = 1, queues do
    local key = delayed .. name(place)
    local due = redis.call('ZRANGEBYSCORE', key, '-inf', stamp, 'LIMIT', 0, promoted)
    if #due > 0 then
        redis.call('ZREMRANGEBYRANK', key, 0, #due - 1)
        for _, member in ipairs(due) do
            local cut = string.find(member, '\n', 1, true)
            redis.call('LPUSH', list(place, string.sub(member, 1, cut - 1)), string.sub(member, cut + 1))
        end
    end
end

local reply = {''}
local left = limit
local fields, index, leases = {}, {}, {}
local function record()
    if #fields > 0 then
        redis.call('HSET', KEYS[1], unpack(fields))
        redis.call('ZADD', KEYS[2], unpack(index))
        redis.call('ZADD', KEYS[3], unpack(leases))
        fields, index, leases = {}, {}, {}
    end
end

local function take(level)
    local label = ARGV[12 + level]
    for turn = 0, queues - 1 do
        if left <= 0 or room <= 0 then return end
        local place = (first + turn) % queues + 1
        local key = list(place, label)
        local part = nil
        local asked = 1
        while left > 0 and room > 0 do
            -- Few at first: what they weigh is only known afterwards.
            asked = math.min(left, asked * 8, 512)
            local taken = redis.call('RPOP', key, asked)
            if not taken then break end
            if part == nil then
                part = {place - 1, label}
                reply[#reply + 1] = part
            end
            local behind = ',"",' .. ARGV[12 + labels + 2 * place] .. ']'
            for _, envelope in ipairs(taken) do
                number = number + 1
                local tag = holder .. ':' .. string.format('%.0f', number) .. ':' .. label
                fields[#fields + 1] = tag
                fields[#fields + 1] = '[' .. envelope .. behind
                index[#index + 1] = stamp
                index[#index + 1] = tag
                leases[#leases + 1] = expiry
                leases[#leases + 1] = tag
                part[#part + 1] = envelope
                room = room - #envelope
            end
            record()
            left = left - #taken
            if #taken < asked then break end
        end
    end
end

-- One question for some lists of one queue: most of them are empty most of the time.
local function any(place, from, upto)
    local keys = {}
    for level = from, upto do keys[#keys + 1] = list(place, ARGV[12 + level]) end
    return redis.call('EXISTS', unpack(keys)) > 0
end
local function anywhere(from, upto)
    for place = 1, queues do
        if any(place, from, upto) then return true end
    end
    return false
end

local level = 1
while level <= labels and left > 0 and room > 0 do
    if ARGV[12 + level] == '' then
        take(level)
        level = level + 1
    else
        local upto = level
        while upto < labels and ARGV[13 + upto] ~= '' do upto = upto + 1 end
        if anywhere(level, upto) then
            for each = level, upto do take(each) end
        end
        level = upto + 1
    end
end

if left <= 0 or room <= 0 then
    -- Something may be left: call the next consumer, which will do the same, so that a burst is shared.
    for place = 1, queues do
        if any(place, 1, labels) and redis.call('EXISTS', bell .. name(place)) == 0 then
            redis.call('LPUSH', bell .. name(place), '1')
            redis.call('PEXPIRE', bell .. name(place), 10000)
        end
    end
    return reply
end

local bells, soonest = {}, nil
for place = 1, queues do
    bells[place] = bell .. name(place)
    local head = redis.call('ZRANGE', delayed .. name(place), 0, 0, 'WITHSCORES')
    if head[2] and (soonest == nil or tonumber(head[2]) < soonest) then soonest = tonumber(head[2]) end
end
if #bells > 0 then redis.call('DEL', unpack(bells)) end
reply[1] = soonest == nil and 'inf' or string.format('%.6f', soonest - now)
return reply
