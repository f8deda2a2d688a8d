-- One message into its list. KEYS: list, bell, set of queues. ARGV: envelope, queue.
-- The push comes first: on a full server it is refused, and then nothing has happened.
redis.call('LPUSH', KEYS[1], ARGV[1])
redis.call('SADD', KEYS[3], ARGV[2])
if redis.call('EXISTS', KEYS[2]) == 0 then
    redis.call('LPUSH', KEYS[2], '1')
    redis.call('PEXPIRE', KEYS[2], 10000)
end
return 1
