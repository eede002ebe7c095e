-- SPDX-License-Identifier: Apache-2.0
-- Changes documents: one winner, by what the author saw. Called by store_functions.py.

-- KEYS: timeline, rate_cards, revision. ARGV: entries that the author saw, entry, last millisecond of the store's clock
-- at which it may be appended, and where the entry names a card: its id, its document. Returns 1 when it was appended.
-- By the store's clock and in one step: a stalled store, or connection, could otherwise append it when instances have
-- begun to price without it.
redis.register_function('@library@_append_timeline', function(keys, args)
  local time = redis.call('TIME')
  local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
  if redis.call('LLEN', keys[1]) ~= tonumber(args[1]) or now_ms > tonumber(args[3]) then
    return 0
  end
  if args[4] then
    redis.call('HSETNX', keys[2], args[4], args[5])
  end
  redis.call('RPUSH', keys[1], args[2])
  redis.call('INCR', keys[3])
  return 1
end)

-- KEYS: audit, audit_open, audit_archived. ARGV: entries that the author saw, archived ones included, entry, then
-- "open" or "close" and the id of the call that begins or ends with it, where one does. Returns 1 when it was appended.
redis.register_function('@library@_append_audit', function(keys, args)
  local length = redis.call('LLEN', keys[1]) + (redis.call('GET', keys[3]) or 0)
  if length ~= tonumber(args[1]) then
    return 0
  end
  redis.call('RPUSH', keys[1], args[2])
  if args[3] == 'open' then
    redis.call('HSET', keys[2], args[4], length + 1)
  elseif args[3] == 'close' then
    redis.call('HDEL', keys[2], args[4])
  end
  return 1
end)

-- KEYS: audit, audit_archived. ARGV: entries archived before, entries that have been archived since. Forgets those,
-- unless another server was first.
redis.register_function('@library@_forget_audit', function(keys, args)
  if tonumber(redis.call('GET', keys[2]) or 0) == tonumber(args[1]) then
    redis.call('LTRIM', keys[1], args[2], -1)
    redis.call('INCRBY', keys[2], args[2])
  end
end)

-- KEYS: tenants, plans, leases, revision. ARGV: name, document, plan or '', lease of each tenant. Returns the
-- positions, from 0, of those whose plan does not exist, and the documents before, '' for none: in one step, so that
-- nobody removes a plan meanwhile.
redis.register_function('@library@_put_tenants', function(keys, args)
  local refused, before = {}, {}
  for i = 1, #args, 4 do
    before[#before + 1] = redis.call('HGET', keys[1], args[i]) or ''
    if args[i + 2] ~= '' and redis.call('HEXISTS', keys[2], args[i + 2]) == 0 then
      refused[#refused + 1] = (i - 1) / 4
    else
      redis.call('HSET', keys[1], args[i], args[i + 1])
      if args[i + 3] == '0' then
        redis.call('HDEL', keys[3], args[i])
      else
        redis.call('HSET', keys[3], args[i], args[i + 3])
      end
    end
  end
  redis.call('INCR', keys[4])
  return {refused, before}
end)

-- KEYS: hashes. ARGV: per field the position of its hash from 1, its name, its value as seen and as it is to be, '' for
-- none. Writes all of them, or none when one is not as seen. Returns 1 when they are as they are to be, also where a
-- call that came twice has made them so.
redis.register_function('@library@_replace_fields', function(keys, args)
  local is_seen, is_done = true, true
  for i = 1, #args, 4 do
    local found = redis.call('HGET', keys[tonumber(args[i])], args[i + 1]) or ''
    is_seen = is_seen and found == args[i + 2]
    is_done = is_done and found == args[i + 3]
  end
  if not is_seen then
    return is_done and 1 or 0
  end
  for i = 1, #args, 4 do
    if args[i + 2] ~= args[i + 3] then
      redis.call('HSET', keys[tonumber(args[i])], args[i + 1], args[i + 3])
    end
  end
  return 1
end)
