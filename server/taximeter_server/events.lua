-- SPDX-License-Identifier: Apache-2.0
-- What only the server that sends webhooks may write, while it holds the lease. Called by event_store.py.

-- KEYS: lease. ARGV: owner, milliseconds. Returns 1 while the owner has it.
redis.register_function('@library@_hold_lease', function(keys, args)
  local owner = redis.call('GET', keys[1])
  if owner and owner ~= args[1] then
    return 0
  end
  redis.call('SET', keys[1], args[1], 'PX', args[2])
  return 1
end)

-- KEYS: lease. ARGV: owner.
redis.register_function('@library@_release_lease', function(keys, args)
  if redis.call('GET', keys[1]) == args[1] then
    redis.call('DEL', keys[1])
  end
end)

-- KEYS: lease. ARGV: owner; then commands, each a JSON list. Runs them if the owner has the lease; returns 1 if so.
redis.register_function('@library@_run_guarded', function(keys, args)
  if redis.call('GET', keys[1]) ~= args[1] then
    return 0
  end
  for i = 2, #args do
    redis.call(unpack(cjson.decode(args[i])))
  end
  return 1
end)

-- KEYS: lease, an endpoint's deliveries, its times, what is due. ARGV: owner, endpoint, event id, delivery, time of the
-- event in ms, deliveries to keep. An event that is there already stays as it is: it may come twice.
redis.register_function('@library@_queue', function(keys, args)
  if redis.call('GET', keys[1]) ~= args[1] then
    return 0
  end
  if redis.call('HSETNX', keys[2], args[3], args[4]) == 0 then
    return 1
  end
  redis.call('ZADD', keys[3], args[5], args[3])
  redis.call('ZADD', keys[4], 0, args[2] .. ' ' .. args[3])
  for _, old in ipairs(redis.call('ZRANGE', keys[3], 0, -args[6] - 1)) do
    redis.call('HDEL', keys[2], old)
    redis.call('ZREM', keys[3], old)
    redis.call('ZREM', keys[4], args[2] .. ' ' .. old)
  end
  return 1
end)
