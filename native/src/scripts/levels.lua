-- SPDX-License-Identifier: Apache-2.0
-- One level of a tenant's path: its limits, what is used and held of them, and how all of it moves with the store's
-- clock. Loaded behind held.lua.

local SECOND_COUNT_MAX = 4000000000
-- A request admitted at any instant of second s may still be inside a 60 s interval until s + 61 begins.
local WINDOW_SECONDS = 61

-- One tenant level, packed: version, limit flags, limits (requests, tokens, cost pair), day, its tokens and cost, those
-- of the next day (events up to 5 minutes ahead) and of the day before (a clock that goes back over midnight), last
-- second with requests, its count, window sum. After that, in version 2, what is held (see held.lua); then pairs
-- (second, count), oldest first, of the other seconds in the window. A level at which something was ever held stays in
-- version 2, because the clock of its holds must not begin anew.
local LEVEL = '<BBI8I8I8I8I8I8I8I8I8I8I8I8I8I8I8I8I8'
local LEVEL_SIZE = 2 + 17 * 8
local LEVEL_PLAIN, LEVEL_HELD = 1, 2
local PAIR = '<I4I4'
local PAIR_SIZE = 8
local HAS_REQUESTS, HAS_TOKENS, HAS_COST = 1, 2, 4

local function new_level()
  return {
    flags = 0, limit_requests = 0, limit_tokens = 0, limit_hi = 0, limit_lo = 0,
    day = 0, tokens = 0, hi = 0, lo = 0, next_tokens = 0, next_hi = 0, next_lo = 0,
    last_tokens = 0, last_hi = 0, last_lo = 0, second = 0, count = 0, sum = 0, pairs = '',
  }
end

local function decode_level(packed)
  if not packed then
    return new_level()
  end
  local version, flags, limit_requests, limit_tokens, limit_hi, limit_lo, day, tokens, hi, lo, next_tokens, next_hi,
    next_lo, last_tokens, last_hi, last_lo, second, count, sum = struct.unpack(LEVEL, packed)
  -- One constructor with all fields: a table that grows field by field is made anew five times.
  local level = {
    flags = flags, limit_requests = limit_requests, limit_tokens = limit_tokens, limit_hi = limit_hi,
    limit_lo = limit_lo, day = day, tokens = tokens, hi = hi, lo = lo, next_tokens = next_tokens, next_hi = next_hi,
    next_lo = next_lo, last_tokens = last_tokens, last_hi = last_hi, last_lo = last_lo, second = second, count = count,
    sum = sum, pairs = '', held = nil, resized = false, went_back = false, changed = false,
  }
  local position = LEVEL_SIZE + 1
  if version == LEVEL_HELD then
    level.held, position = decode_held(packed, position)
  elseif version ~= LEVEL_PLAIN then
    error('CORRUPT level version ' .. tostring(version))
  end
  level.pairs = string.sub(packed, position)
  return level
end

local function pack_level(level)
  return struct.pack(LEVEL, level.held and LEVEL_HELD or LEVEL_PLAIN, level.flags, level.limit_requests,
    level.limit_tokens, level.limit_hi, level.limit_lo, level.day, level.tokens, level.hi, level.lo, level.next_tokens,
    level.next_hi, level.next_lo, level.last_tokens, level.last_hi, level.last_lo, level.second, level.count, level.sum)
end

-- Writes what has changed: the head, and of the rest as little as goes in one command.
local function save_level(key, level)
  local held = level.held
  if level.resized then
    local behind = held and pack_held(held) .. held.buckets .. level.pairs or level.pairs
    redis.call('SET', key, pack_level(level) .. behind)
  elseif held and held.changed_size > 0 then
    local changed = string.sub(held.buckets, 1, held.changed_size)
    redis.call('SETRANGE', key, 0, pack_level(level) .. pack_held(held) .. changed)
  else
    redis.call('SETRANGE', key, 0, pack_level(level))
  end
end

-- Moves the day slots to the store's current day. A clock that goes back over midnight, or back and forth by a day,
-- finds the days as it left them.
local function roll_day(level, today)
  if level.day == today then
    return
  end
  local tokens, hi, lo = level.tokens, level.hi, level.lo
  level.tokens, level.hi, level.lo = 0, 0, 0
  if level.day == today - 1 then
    level.tokens, level.hi, level.lo = level.next_tokens, level.next_hi, level.next_lo
    level.last_tokens, level.last_hi, level.last_lo = tokens, hi, lo
    level.next_tokens, level.next_hi, level.next_lo = 0, 0, 0
  elseif level.day == today + 1 then
    level.tokens, level.hi, level.lo = level.last_tokens, level.last_hi, level.last_lo
    level.next_tokens, level.next_hi, level.next_lo = tokens, hi, lo
    level.last_tokens, level.last_hi, level.last_lo = 0, 0, 0
  else
    level.next_tokens, level.next_hi, level.next_lo = 0, 0, 0
    level.last_tokens, level.last_hi, level.last_lo = 0, 0, 0
  end
  level.day = today
end

-- Moves the window to the store's current second.
local function roll_window(level, now)
  if now == level.second then
    return
  end
  level.resized = true
  if now < level.second then
    -- The clock went back. Everything in the window counts as of now: freed at most a window late, never early.
    level.pairs = ''
    if level.held then
      level.held.shift = level.held.shift + level.second - now
    end
    level.count, level.second = math.min(level.sum, SECOND_COUNT_MAX), now
    level.sum = level.count
    level.went_back = true
    return
  end
  if level.count > 0 then
    level.pairs = level.pairs .. struct.pack(PAIR, level.second, level.count)
  end
  level.second, level.count = now, 0
  local position = 1
  while position <= #level.pairs do
    local second, count = struct.unpack(PAIR, level.pairs, position)
    if second > now - WINDOW_SECONDS then
      break
    end
    level.sum = level.sum - count
    position = position + PAIR_SIZE
  end
  if position > 1 then
    level.pairs = string.sub(level.pairs, position)
  end
end

-- Earliest second at which `need` of the counted requests have left the window.
local function window_free_at(level, need)
  local freed, position = 0, 1
  while position <= #level.pairs do
    local second, count = struct.unpack(PAIR, level.pairs, position)
    freed = freed + count
    if freed >= need then
      return second + WINDOW_SECONDS
    end
    position = position + PAIR_SIZE
  end
  return level.second + WINDOW_SECONDS
end

local function load_levels(keys, first, last, now)
  local levels = {}
  local today = math.floor(now / DAY_SECONDS)
  for i = first, last do
    -- GET and not MGET: a key of another type must stop the script before it writes.
    local packed = redis.call('GET', keys[i])
    local level = decode_level(packed)
    level.resized = not packed
    local is_new_day = level.day ~= today
    roll_day(level, today)
    roll_window(level, now)
    if level.held then
      roll_held(level, now, is_new_day)
    end
    levels[i - first + 1] = level
  end
  return levels
end

-- Adds usage of one event day to a level; false when a counter would pass its maximum.
local function add_usage(level, day, tokens, hi, lo)
  local prefix_tokens, prefix_hi, prefix_lo
  if day == level.day then
    prefix_tokens, prefix_hi, prefix_lo = 'tokens', 'hi', 'lo'
  elseif day == level.day + 1 then
    prefix_tokens, prefix_hi, prefix_lo = 'next_tokens', 'next_hi', 'next_lo'
  else
    -- A past day: its quota is over, reports count it from the ledger.
    return true
  end
  local sum_tokens = level[prefix_tokens] + tokens
  local sum_hi, sum_lo = add(level[prefix_hi], level[prefix_lo], hi, lo)
  if too_much(sum_tokens, sum_hi, sum_lo) then
    return false
  end
  level[prefix_tokens], level[prefix_hi], level[prefix_lo] = sum_tokens, sum_hi, sum_lo
  return true
end

local function fits(levels, day, tokens, hi, lo)
  for _, level in ipairs(levels) do
    local probe = {
      day = level.day, tokens = level.tokens, hi = level.hi, lo = level.lo,
      next_tokens = level.next_tokens, next_hi = level.next_hi, next_lo = level.next_lo,
    }
    if not add_usage(probe, day, tokens, hi, lo) then
      return false
    end
  end
  return true
end
