-- SPDX-License-Identifier: Apache-2.0
-- Which sets of attributes a tenant's day has admitted. Loaded behind amounts.lua.

-- Kept so long after the last one was admitted. By then records of the day are rare; those that still come begin a new
-- list. A step of the clock can end a list early, which admits more, or late, which costs memory: never a record.
local ATTRIBUTE_SETS_SECONDS = 2 * DAY_SECONDS

-- What is left of attributes: all, the keys, nothing.
local KEPT, KEYS_KEPT, NOTHING_KEPT = 0, 1, 2

local function is_admitted(key, hash, count_max)
  local found = redis.pcall('SISMEMBER', key, hash)
  if found == 1 then
    return true
  elseif found ~= 0 or redis.call('SCARD', key) >= count_max then
    -- A list of another type admits nothing: nobody knows what is in it.
    return false
  end
  redis.call('SADD', key, hash)
  redis.call('EXPIRE', key, ATTRIBUTE_SETS_SECONDS)
  return true
end

-- admit_attributes. KEYS: per record the sets and the key sets of its tenant's day. ARGV: partition; most sets, and
-- most key sets, of a tenant's day; per record the hash of its set and that of its keys.
-- Returns one byte per record: what is left of its attributes.
local function admit_attributes(keys, args)
  if not opened[args[1]] then
    return redis.error_reply('NOTOPEN')
  end
  local count_max, left = tonumber(args[2]), {}
  for i = 1, #keys, 2 do
    left[#left + 1] = is_admitted(keys[i], args[i + 2], count_max) and KEPT
      or is_admitted(keys[i + 1], args[i + 3], count_max) and KEYS_KEPT or NOTHING_KEPT
  end
  return string.char(unpack(left))
end
