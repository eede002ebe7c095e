-- SPDX-License-Identifier: Apache-2.0
-- Which limits a level has: its plan's, its own, temporary ones. Loaded behind held.lua.
--
-- Of each kind of limit the last of these three that sets it counts: the plan, the level itself, what stands in for
-- both until some second. A level without settings of its own has the plan that is the default for its depth. A limit
-- is only watched when any of the three says so.
--
-- Plans lie in the partition of their levels, so a call stays in it. Levels name their plan and do not copy it: a plan
-- is changed by one command, for all of its tenants in the same instant.

-- Flags, then limits (requests, tokens, cost pair). Flags: which limits there are, and as SHADOW times the flag of a
-- limit, that it is only watched. 8 and 128 are left for a fourth limit.
local LIMITS = '<BI8I8I8I8'
local LIMITS_SIZE = 33
local HAS_REQUESTS, HAS_TOKENS, HAS_COST = 1, 2, 4
local SHADOW = 16
local NO_LIMITS = ''
for _ = 1, LIMITS_SIZE do
  NO_LIMITS = NO_LIMITS .. '\0'
end
-- Plans of levels without settings, by depth; and their keys, by partition.
local DEFAULT_PLANS = { 'default', 'default-2', 'default-3', 'default-4' }
local default_keys = {}

local function default_plan_key(partition, depth)
  local keys = default_keys[partition]
  if not keys then
    keys = {}
    for i, plan in ipairs(DEFAULT_PLANS) do
      keys[i] = '{tx:' .. partition .. '}:plan:' .. plan
    end
    default_keys[partition] = keys
  end
  return keys[depth]
end

local function set_limits(level, packed)
  level.flags, level.limit_requests, level.limit_tokens, level.limit_hi, level.limit_lo =
    struct.unpack(LIMITS, packed)
end

-- Lays limits over those that a level has so far.
local function lay_over(level, packed)
  local flags, requests, tokens, hi, lo = struct.unpack(LIMITS, packed)
  local set = BITS[flags]
  if set[HAS_REQUESTS] then
    level.limit_requests = requests
  end
  if set[HAS_TOKENS] then
    level.limit_tokens = tokens
  end
  if set[HAS_COST] then
    level.limit_hi, level.limit_lo = hi, lo
  end
  level.flags = level.flags + flags - common_flags(level.flags, flags)
end

-- Settings of a level that has more of them than its own limits, in the store behind the counters.
local PART_TEMPORARY, PART_PLAN, PART_SET = 2, 8, 16
local UNTIL = '<I8'
local UNTIL_SIZE = 8

-- own, temporary: LIMITS. plan_key: nil for none. until_second, temporary: nil when nothing stands in. Parts and packed
-- are how it lies in the store.
local function new_settings(own, plan_key, until_second, temporary)
  local parts, packed = PART_SET, ''
  if temporary then
    parts = parts + PART_TEMPORARY
    packed = struct.pack(UNTIL, until_second) .. temporary
  end
  if plan_key then
    parts = parts + PART_PLAN
    packed = packed .. struct.pack('<B', #plan_key) .. plan_key
  end
  return { own = own, plan_key = plan_key, until_second = until_second, temporary = temporary, parts = parts,
    packed = packed }
end

-- Returns settings and the position behind them.
local function decode_settings(own, packed, parts, first)
  local position, plan_key, until_second, temporary = first, nil, nil, nil
  if has(parts, PART_TEMPORARY) then
    until_second = struct.unpack(UNTIL, packed, position)
    temporary = string.sub(packed, position + UNTIL_SIZE, position + UNTIL_SIZE + LIMITS_SIZE - 1)
    position = position + UNTIL_SIZE + LIMITS_SIZE
  end
  if has(parts, PART_PLAN) then
    local size = string.byte(packed, position)
    plan_key = string.sub(packed, position + 1, position + size)
    position = position + 1 + size
  end
  return { own = own, plan_key = plan_key, until_second = until_second, temporary = temporary, parts = parts,
    packed = string.sub(packed, first, position - 1) }, position
end

-- What a level without settings has beside its default plan: nothing.
local NO_SETTINGS = { own = NO_LIMITS, parts = 0, packed = '' }

-- Finds the limits of a level that has more to it than limits of its own, or none.
local function find_limits(level, partition, depth, now)
  local settings = level.settings
  if settings and settings.temporary and now >= settings.until_second then
    settings = new_settings(settings.own, settings.plan_key)
    level.settings, level.resized = settings, true
  end
  local plan_key = settings and settings.plan_key or not settings and default_plan_key(partition, depth)
  local limits = plan_key and redis.call('GET', plan_key)
  if limits then
    settings = settings or NO_SETTINGS
    level.settings = settings
    set_limits(level, limits)
    if string.byte(settings.own) ~= 0 then
      lay_over(level, settings.own)
    end
  end
  if settings and settings.temporary then
    lay_over(level, settings.temporary)
  end
end
