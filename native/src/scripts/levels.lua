-- SPDX-License-Identifier: Apache-2.0
-- One level of a tenant's path: its limits, what is used of them, and how both move with the store's clock. Loaded in
-- front of meter.lua, into one library.
--
-- Money is a pair (hi, lo): picos = hi * 10^9 + lo with 0 <= lo < 10^9, because a Lua number is exact only to 2^53.
-- Times come from the store's own clock, one clock for all instances.

local MONEY_BASE = 1e9
local COUNT_MAX = 9007199254740991
-- 2^63 - 1 picos as a pair.
local COST_HI_MAX, COST_LO_MAX = 9223372036, 854775807
local SECOND_COUNT_MAX = 4000000000
-- A request admitted at any instant of second s may still be inside a 60 s interval until s + 61 begins.
local WINDOW_SECONDS = 61
local DAY_SECONDS = 86400

-- One tenant level, packed: version, limit flags, limits (requests, tokens, cost pair), day, its tokens and cost, those
-- of the next day (events up to 5 minutes ahead) and of the day before (a clock that goes back over midnight), last
-- second with requests, its count, window sum. After that pairs (second, count), oldest first, of the other seconds in
-- the window.
local LEVEL = '<BBI8I8I8I8I8I8I8I8I8I8I8I8I8I8I8I8I8'
local LEVEL_SIZE = 2 + 17 * 8
local LEVEL_VERSION = 1
local PAIR = '<I4I4'
local PAIR_SIZE = 8
local HAS_REQUESTS, HAS_TOKENS, HAS_COST = 1, 2, 4

local function store_seconds()
  local now = redis.call('TIME')
  return tonumber(now[1]), tonumber(now[2])
end

local function less(hi_a, lo_a, hi_b, lo_b)
  return hi_a < hi_b or (hi_a == hi_b and lo_a < lo_b)
end

local function add(hi_a, lo_a, hi_b, lo_b)
  local hi, lo = hi_a + hi_b, lo_a + lo_b
  if lo >= MONEY_BASE then
    return hi + 1, lo - MONEY_BASE
  end
  return hi, lo
end

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
  local level = {}
  local version
  version, level.flags, level.limit_requests, level.limit_tokens, level.limit_hi, level.limit_lo,
    level.day, level.tokens, level.hi, level.lo, level.next_tokens, level.next_hi, level.next_lo,
    level.last_tokens, level.last_hi, level.last_lo, level.second, level.count, level.sum =
    struct.unpack(LEVEL, packed)
  if version ~= LEVEL_VERSION then
    error('CORRUPT level version ' .. tostring(version))
  end
  level.pairs = string.sub(packed, LEVEL_SIZE + 1)
  return level
end

local function pack_level(level)
  return struct.pack(LEVEL, LEVEL_VERSION, level.flags, level.limit_requests, level.limit_tokens, level.limit_hi,
    level.limit_lo, level.day, level.tokens, level.hi, level.lo, level.next_tokens, level.next_hi, level.next_lo,
    level.last_tokens, level.last_hi, level.last_lo, level.second, level.count, level.sum)
end

local function save_level(key, level)
  if level.pairs_changed then
    redis.call('SET', key, pack_level(level) .. level.pairs)
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
  level.pairs_changed = true
  if now < level.second then
    -- The clock went back. Everything in the window counts as of now: freed at most a window late, never early.
    level.pairs = ''
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
local function freed_at(level, need)
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

-- LevelStatus, see quota.rs: flags, failed flags, requests maximum/used/freed_at, tokens maximum/used, cost
-- maximum/used as pairs. A level without limits is one zero byte.
local function pack_status(level, failed, requests)
  if level.flags == 0 then
    return '\0'
  end
  local freed = 0
  if level.flags % 2 == 1 and level.sum + requests > level.limit_requests then
    freed = freed_at(level, level.sum + requests - level.limit_requests)
  end
  return struct.pack('<BBI8I8I8I8I8I8I8I8I8', level.flags, failed, level.limit_requests, level.sum, freed,
    level.limit_tokens, level.tokens, level.limit_hi, level.limit_lo, level.hi, level.lo)
end

local function has(flags, bit_value)
  return math.floor(flags / bit_value) % 2 == 1
end

local function load_levels(keys, first, last, now)
  local levels = {}
  local today = math.floor(now / DAY_SECONDS)
  for i = first, last do
    -- GET and not MGET: a key of another type must stop the script before it writes.
    local packed = redis.call('GET', keys[i])
    local level = decode_level(packed)
    level.pairs_changed = not packed
    roll_day(level, today)
    roll_window(level, now)
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
  if sum_tokens > COUNT_MAX or less(COST_HI_MAX, COST_LO_MAX, sum_hi, sum_lo) then
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
