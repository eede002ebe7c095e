-- SPDX-License-Identifier: Apache-2.0
-- Changes what is to be pushed to the payment provider. Called by store_functions.py.

-- KEYS: jobs, times, due, a hash that a mark is set in. ARGV: job id, job, time in ms, jobs to keep, mark or '', its
-- value. Queues a job that there is not yet; one that there is stays as it is. Only jobs that are not due are dropped.
redis.register_function('@library@_queue_payment', function(keys, args)
  if redis.call('HSETNX', keys[1], args[1], args[2]) == 0 then
    return 0
  end
  redis.call('ZADD', keys[2], args[3], args[1])
  redis.call('ZADD', keys[3], args[3], args[1])
  if args[5] ~= '' then
    redis.call('HSET', keys[4], args[5], args[6])
  end
  for _, old in ipairs(redis.call('ZRANGE', keys[2], 0, -args[4] - 1)) do
    if not redis.call('ZSCORE', keys[3], old) then
      redis.call('HDEL', keys[1], old)
      redis.call('ZREM', keys[2], old)
    end
  end
  return 1
end)

-- KEYS: jobs, due. ARGV: job id, job as it was, job as it shall be, time of its next attempt in ms or ''. Returns 1
-- unless somebody else was first.
redis.register_function('@library@_replace_payment', function(keys, args)
  if redis.call('HGET', keys[1], args[1]) ~= args[2] then
    return 0
  end
  redis.call('HSET', keys[1], args[1], args[3])
  if args[4] == '' then
    redis.call('ZREM', keys[2], args[1])
  else
    redis.call('ZADD', keys[2], args[4], args[1])
  end
  return 1
end)
