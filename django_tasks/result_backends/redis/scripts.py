"""What happens inside the server: each script is one step that nobody else gets in between."""

from typing import Final

#: Stores a batch, by the rules of ``merging``. KEYS: none; ARGV: prefix of keys, seconds until they go (0: never), records,
#: seconds until failures go.
#: A record: length of the id (2 bytes), of the document (4), of the names (1), whether the state is ready (1), then those three.
#: The names are of fields that the write doesn't know. Where the kept document has one of them, it is for the client to
#: merge the two, since a document that Lua's JSON has read and written again is not the same: returned are the record's
#: place and the document that is kept.
STORE: Final = """
local prefix, usual, records, failed = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local at, place, unmerged = 1, 0, {}
while at <= #records do
  local idlength, length, names, ready, start = struct.unpack('>I2I4I1I1', records, at)
  local key = prefix .. string.sub(records, start, start + idlength - 1)
  local doc = string.sub(records, start + idlength, start + idlength + length - 1)
  at = start + idlength + length + names
  local held = redis.call('GET', key)
  local verdict = 'set'
  if held then
    local status = string.match(held, '^{"status":%s*"([^"]*)"')
    if not status then
      local read, found = pcall(cjson.decode, held)
      status = read and type(found) == 'table' and found.status
    end
    if status == 'SUCCESS' or ((status == 'FAILURE' or status == 'REVOKED') and ready == 0) then
      verdict = 'keep'
    elseif status then
      for name in string.gmatch(string.sub(records, at - names, at - 1), '[^,]+') do
        local _, ends = string.find(held, '"' .. name .. '":%s*', 1)
        if ends and string.sub(held, ends + 1, ends + 4) ~= 'null' then verdict = 'merge' end
      end
      local begun = string.match(held, '"date_started":%s*"([^"]*)"')
      local now, again = string.match(held, '"retries":%s*(%d+)'), string.match(doc, '"retries":%s*(%d+)')
      if now and again and tonumber(now) > tonumber(again) then verdict = 'merge' end
      if begun and verdict == 'set' then
        -- The first start stays the start. It stands at the front, before anything that a user wrote.
        local from, to = string.find(doc, '"date_started":"[^"]*"', 1)
        if from and from < 64 then
          doc = string.sub(doc, 1, from - 1) .. '"date_started":"' .. begun .. '"' .. string.sub(doc, to + 1)
        else
          verdict = 'merge'
        end
      end
    end
  end
  if verdict == 'set' then
    local ttl = string.find(doc, '{"status":"FAILURE"', 1, true) == 1 and failed or usual
    if ttl > 0 then redis.call('SET', key, doc, 'EX', ttl) else redis.call('SET', key, doc) end
    redis.call('PUBLISH', key, doc)
  elseif verdict == 'merge' then
    unmerged[#unmerged + 1] = place
    unmerged[#unmerged + 1] = held
  end
  place = place + 1
end
return unmerged
"""

#: Replaces a document that is still the one that was read. KEYS: the key; ARGV: what was read, the new one, seconds.
REPLACE: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if tonumber(ARGV[3]) > 0 then redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3]) else redis.call('SET', KEYS[1], ARGV[2]) end
redis.call('PUBLISH', KEYS[1], ARGV[2])
return 1
"""

#: Opens chords but for those that are open, or whose bodies were sent. KEYS: open chords, the groups; ARGV: seconds, then for each
#: group size, body, ids of the parts, and the shape of its results or nothing.
OPEN: Final = """
local ttl, time = tonumber(ARGV[1]), redis.call('TIME')
for number = 2, #KEYS do
  local group, at = KEYS[number], number * 4 - 6
  if redis.call('GET', group .. '.c') ~= 'done' and redis.call('SET', group .. '.s', ARGV[at], 'NX', 'EX', ttl) then
    redis.call('ZADD', KEYS[1], time[1] * 1000 + math.floor(time[2] / 1000), group)
    redis.call('HSET', group .. '.o', 'body', ARGV[at + 1], 'parts', ARGV[at + 2])
    redis.call('EXPIRE', group .. '.o', ttl)
    -- The shape lies under the group's own key, be it that somebody saved the group, and must not go before the rest.
    if ARGV[at + 3] ~= '' then redis.call('SET', group, ARGV[at + 3]) end
    if ARGV[at + 3] ~= '' or redis.call('TTL', group) > 0 then redis.call('EXPIRE', group, ttl) end
  end
end
"""

#: Expects more parts. KEYS: the group; ARGV: how many, seconds, their ids if those are known: each counts once.
GROW: Final = """
local group, by = KEYS[1], tonumber(ARGV[1])
if redis.call('EXISTS', group .. '.s') == 1 then
  if #ARGV > 2 then by = 0 end
  for number = 3, #ARGV do by = by + redis.call('SADD', group .. '.m', ARGV[number]) end
  redis.call('INCRBY', group .. '.t', by)
  for _, suffix in ipairs({'.t', '.m'}) do redis.call('EXPIRE', group .. suffix, ARGV[2]) end
end
"""

#: Finds chords that wait for parts. KEYS: open chords; ARGV: length of the prefix, time, limit, "1" for ordered.
#: Returns group, time, size, how many are counted, and body of each.
WAITING: Final = """
local found, start, before, limit = {}, 0, ARGV[2], tonumber(ARGV[3])
while #found < limit * 5 do
  local some = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. before, 'WITHSCORES', 'LIMIT', start, 100)
  if #some == 0 then break end
  for at = 1, #some, 2 do
    local group = some[at]
    local size, body = redis.call('GET', group .. '.s'), redis.call('HGET', group .. '.o', 'body')
    if not size or not body then
      redis.call('ZREM', KEYS[1], group)
      redis.call('DEL', group .. '.o', group .. '.m')
    else
      start = start + 1
      if redis.call('EXISTS', group .. '.c') == 0 and #found < limit * 5 then
        local counted = redis.call(ARGV[4] == '1' and 'ZCARD' or 'LLEN', group .. '.j')
        local entry = {group, some[at + 1], size + (redis.call('GET', group .. '.t') or 0), counted, body}
        for _, value in ipairs(entry) do found[#found + 1] = value end
      end
    end
  end
end
return found
"""

#: Lists those of these chords that nobody has been given. KEYS: the chords, then the groups; ARGV: "1" for ordered. Returns what
#: WAITING does.
FIND: Final = """
local found = {}
for at = 2, #KEYS do
  local group = KEYS[at]
  local opened, body = redis.call('ZSCORE', KEYS[1], group), redis.call('HGET', group .. '.o', 'body')
  local size = redis.call('GET', group .. '.s')
  if opened and size and body and redis.call('EXISTS', group .. '.c') == 0 then
    local counted = redis.call(ARGV[1] == '1' and 'ZCARD' or 'LLEN', group .. '.j')
    local entry = {group, opened, size + (redis.call('GET', group .. '.t') or 0), counted, body}
    for _, value in ipairs(entry) do found[#found + 1] = value end
  end
end
return found
"""

#: Reads what chords that nobody has been given wait for. KEYS: the groups; ARGV: "1" for ordered. Returns of each that does its number,
#: body, ids of the parts, and of those that were added, and, in quotes as they lie there, of those that have been counted, be it by
#: Celery's workers.
UNCOUNTED: Final = """
local found = {}
for number, group in ipairs(KEYS) do
  local kept = redis.call('HMGET', group .. '.o', 'body', 'parts')
  if kept[1] and redis.call('EXISTS', group .. '.s') == 1 and redis.call('EXISTS', group .. '.c') == 0 then
    local counted = {}
    for _, entry in ipairs(redis.call(ARGV[1] == '1' and 'ZRANGE' or 'LRANGE', group .. '.j', 0, -1)) do
      counted[#counted + 1] = string.match(entry, '^%[1,%s*(".-"),%s*"%u+",')
    end
    for _, value in ipairs({number - 1, kept[1], kept[2], redis.call('SMEMBERS', group .. '.m'), counted}) do found[#found + 1] = value end
  end
end
return found
"""

_PARTS: Final = """
local function parts(group, ordered)
  if ordered then return redis.call('ZRANGE', group .. '.j', 0, -1, 'WITHSCORES') end
  return redis.call('LRANGE', group .. '.j', 0, -1)
end
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function claim(claims, bodies, group, body, token, patience)
  if not redis.call('SET', group .. '.c', token, 'NX', 'PX', patience) then return false end
  redis.call('ZADD', claims, now() + patience, group)
  redis.call('HSET', bodies, group, body)
  return true
end
"""

#: Counts parts as Celery's workers do, and claims the chords that are complete, or have failed, for the caller.
#: KEYS: claims, bodies, open chords, the groups; ARGV: token, milliseconds of a claim, seconds of the keys, "1" for ordered; then for each
#: group its body, the number of parts, and of each its id, place, entry and "1" if it failed. Returns number, parts and shape of each.
COUNT: Final = (
    _PARTS
    + """
local token, patience, ttl, ordered = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4] == '1'
local at, found = 5, {}
for number = 4, #KEYS do
  local group, body, length, failed = KEYS[number], ARGV[at], tonumber(ARGV[at + 1]), false
  local size = redis.call('GET', group .. '.s')
  at = at + 2
  if redis.call('GET', group .. '.c') ~= 'done' then
    for part = at, at + length * 4 - 1, 4 do
      local once = redis.call('SADD', group .. '.d', ARGV[part] .. ':' .. ARGV[part + 1]) == 1
      if once and ordered then redis.call('ZADD', group .. '.j', ARGV[part + 1], ARGV[part + 2]) end
      if once and not ordered then redis.call('RPUSH', group .. '.j', ARGV[part + 2]) end
      failed = failed or ARGV[part + 3] == '1'
    end
    for _, suffix in ipairs({'.j', '.t', '.s', '.d', '.o', '.m'}) do redis.call('EXPIRE', group .. suffix, ttl) end
    if redis.call('TTL', group) > 0 then redis.call('EXPIRE', group, ttl) end
    local count = redis.call(ordered and 'ZCARD' or 'LLEN', group .. '.j')
    -- Celery's clients say how many there are just before they send the last one: what comes earlier completes nothing.
    local complete = size and count >= size + (redis.call('GET', group .. '.t') or 0)
    if size and failed and not complete then
      -- As it was counted first: a part that was done well, and failed when it ran again, has not failed.
      for _, entry in ipairs(parts(group, ordered)) do
        local state = string.match(entry, '^%[1,%s*"[^"]*",%s*"([^"]*)"')
        complete = complete or (state and state ~= 'SUCCESS')
      end
    end
    -- Without its body, which another part may bring, nobody could end the chord: of Celery's, we know none.
    if complete and body ~= '{}' and claim(KEYS[1], KEYS[2], group, body, token, patience) then
      found[#found + 1] = number - 4
      found[#found + 1] = parts(group, ordered)
      found[#found + 1] = redis.call('GET', group)
    end
  end
  at = at + length * 4
end
return found
"""
)

#: Claims anew what was claimed and never closed. KEYS: claims, bodies, open chords; ARGV: token, milliseconds of a claim, "1" for
#: ordered, limit.
#: Returns group, body, parts and shape of each.
RECLAIM: Final = (
    _PARTS
    + """
local token, patience, ordered, found = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1', {}
for _, group in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now(), 'LIMIT', 0, ARGV[4])) do
  local body = redis.call('HGET', KEYS[2], group)
  if not body or redis.call('GET', group .. '.c') == 'done' or redis.call('EXISTS', group .. '.s') == 0 then
    redis.call('ZREM', KEYS[1], group)
    redis.call('HDEL', KEYS[2], group)
  elseif claim(KEYS[1], KEYS[2], group, body, token, patience) then
    found[#found + 1] = group
    found[#found + 1] = body
    found[#found + 1] = parts(group, ordered)
    found[#found + 1] = redis.call('GET', group)
  else
    redis.call('ZADD', KEYS[1], now() + patience, group)
  end
end
return found
"""
)

#: Ends chords. KEYS: claims, bodies, open chords, the groups; ARGV: seconds for which nobody can open them again.
CLOSE: Final = """
for number = 4, #KEYS do
  local group = KEYS[number]
  redis.call('DEL', group .. '.j', group .. '.t', group .. '.s', group .. '.d', group .. '.o', group .. '.m')
  redis.call('SET', group .. '.c', 'done', 'EX', ARGV[1])
  redis.call('ZREM', KEYS[1], group)
  redis.call('HDEL', KEYS[2], group)
  redis.call('ZREM', KEYS[3], group)
end
"""
