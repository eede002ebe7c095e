-- SPDX-License-Identifier: Apache-2.0
-- One level of a tenant's path: its limits, what is used and held of them, and how all of it moves with the store's
-- clock. Loaded behind limits.lua.

local SECOND_COUNT_MAX = 4000000000
-- A request admitted at any instant of second s may still be inside a 60 s interval until s + 61 begins.
local WINDOW_SECONDS = 61

-- One tenant level, packed: version; own limits (see limits.lua); day, its tokens and cost, those of the next day
-- (events up to 5 minutes ahead) and of the day before (a clock that goes back over midnight), last second with
-- requests, its count, window sum. After that the parts that the version names, one more than the sum of their flags:
--
--   4 What was told of the limits, see thresholds.lua: for requests, tokens, cost and a fourth limit the percentage of
--     the highest threshold that was told in the present window, 0 for none, and the first second of the window of
--     requests. Those of the day become 0 here when the level comes to another day. Who sets level.is_told sets
--     level.resized; who changes what was told need not.
--   2 temporary limits, 8 the plan, 16 settings, which may set no limit: see limits.lua.
--   1 What is held: see held.lua. A level at which something was ever held keeps this part, because the clock of its
--     holds must not begin anew.
--   32 nothing: it says that the level has a credit account, see credits.lua.
--
-- and then pairs (second, count), oldest first, of the other seconds in the window. The next part is 64.
local HEAD_SIZE = 1 + LIMITS_SIZE
local COUNTERS = '<I8I8I8I8I8I8I8I8I8I8I8I8I8'
local TOLD = 'BBBxI4'
local TOLD_SIZE = 8
local COUNTERS_TOLD = COUNTERS .. TOLD
local LEVEL = '<BBI8I8I8I8I8I8I8I8I8I8I8I8I8I8I8I8I8'
local LEVEL_TOLD = LEVEL .. TOLD
local LEVEL_SIZE = HEAD_SIZE + 13 * 8
local LEVEL_PLAIN, PART_HELD, PART_TOLD, PART_CREDITS, PARTS_MAX = 1, 1, 4, 32, 63
local OTHER_PARTS = PART_HELD + PART_TOLD + PART_CREDITS
local PAIR = '<I4I4'
local PAIR_SIZE = 8
local NEW_LEVEL = ''
for _ = 1, LEVEL_SIZE do
  NEW_LEVEL = NEW_LEVEL .. '\0'
end

-- Tables of levels, by the order in which a call loads them. No call keeps one, and a new table for each would cost
-- more than what is written into it.
local tables = {}

-- `packed`: from the store; false where it has none. Sets every field that a level has: 32 at most, because a table
-- with more would be made anew whenever one of them becomes nil. account: its credits, or false. resized, dirty:
-- whether it has to be written whole, and at all. path: the levels from the root to this one, where the call has asked
-- for them. before: what the counters were before records were added.
local function decode_level(number, key, packed)
  local parts = packed and (string.byte(packed) or 0) - LEVEL_PLAIN or 0
  if parts < 0 or parts > PARTS_MAX then
    error('CORRUPT level version ' .. tostring(parts + LEVEL_PLAIN))
  end
  local set, _, level = BITS[parts], nil, tables[number]
  if not level then
    level = {}
    tables[number] = level
  end
  _, level.flags, level.limit_requests, level.limit_tokens, level.limit_hi, level.limit_lo, level.day, level.tokens,
    level.hi, level.lo, level.next_tokens, level.next_hi, level.next_lo, level.last_tokens, level.last_hi,
    level.last_lo, level.second, level.count, level.sum, level.told_requests, level.told_tokens, level.told_cost,
    level.told_second = struct.unpack(set[PART_TOLD] and LEVEL_TOLD or LEVEL, packed or NEW_LEVEL)
  level.key, level.held, level.settings, level.path, level.before = key, nil, nil, nil, nil
  level.is_told, level.account, level.resized, level.dirty = set[PART_TOLD], set[PART_CREDITS], not packed, false
  local position = LEVEL_SIZE + 1
  if level.is_told then
    position = position + TOLD_SIZE
  else
    -- What followed the sum was the position at which struct.unpack ended.
    level.told_requests, level.told_tokens, level.told_cost, level.told_second = 0, 0, 0, 0
  end
  if set[PART_SET] then
    local own = string.sub(packed, 2, HEAD_SIZE)
    level.settings, position = decode_settings(own, packed, parts - common_flags(parts, OTHER_PARTS), position)
  end
  if set[PART_HELD] then
    level.held, position = decode_held(number, packed, position)
  end
  level.pairs = packed and string.sub(packed, position) or ''
  return level
end

local function parts_of(level)
  return LEVEL_PLAIN + (level.held and PART_HELD or 0) + (level.is_told and PART_TOLD or 0)
    + (level.account and PART_CREDITS or 0)
end

-- What was told comes last: where the format ends before it, nobody asks for it.
local function pack_counters(level)
  return struct.pack(level.is_told and COUNTERS_TOLD or COUNTERS, level.day, level.tokens, level.hi, level.lo,
    level.next_tokens, level.next_hi, level.next_lo, level.last_tokens, level.last_hi, level.last_lo, level.second,
    level.count, level.sum, level.told_requests, level.told_tokens, level.told_cost, level.told_second)
end

local function pack_level(level)
  local held, settings = level.held, level.settings
  local behind = held and pack_held(held) .. held.buckets .. level.pairs or level.pairs
  if settings then
    local parts = parts_of(level) + settings.parts
    return struct.pack('<B', parts) .. settings.own .. pack_counters(level) .. settings.packed .. behind
  end
  return struct.pack(level.is_told and LEVEL_TOLD or LEVEL, parts_of(level), level.flags, level.limit_requests,
    level.limit_tokens, level.limit_hi, level.limit_lo, level.day, level.tokens, level.hi, level.lo, level.next_tokens,
    level.next_hi, level.next_lo, level.last_tokens, level.last_hi, level.last_lo, level.second, level.count, level.sum,
    level.told_requests, level.told_tokens, level.told_cost, level.told_second) .. behind
end

-- Writes what has changed: the counters, and of the rest as little as goes in one command. What has to be written whole
-- is added to `whole`, a list of keys and values.
local function save_level(level, whole)
  local key, held, settings = level.key, level.held, level.settings and level.settings.packed or ''
  if held then
    fill_bucket(level)
  end
  if level.resized then
    local size = #whole
    whole[size + 1], whole[size + 2] = key, pack_level(level)
  elseif held and held.changed_size > 0 then
    local changed = string.sub(held.buckets, 1, held.changed_size)
    redis.call('SETRANGE', key, HEAD_SIZE, pack_counters(level) .. settings .. pack_held(held) .. changed)
  else
    redis.call('SETRANGE', key, HEAD_SIZE, pack_counters(level))
  end
  if level.account then
    credits.save(level.account)
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
  level.told_tokens, level.told_cost = 0, 0
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
    -- Else it would begin anew with every call, and never end.
    level.dirty = true
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

local function load_level(number, key, partition, depth, now)
  -- GET and not MGET: a key of another type must stop the script before it writes.
  local level = decode_level(number, key, redis.call('GET', key))
  local today = math.floor(now / DAY_SECONDS)
  if level.settings or level.flags == 0 then
    find_limits(level, partition, depth, now)
  end
  local is_new_day = level.day ~= today
  roll_day(level, today)
  roll_window(level, now)
  if level.held then
    roll_held(level, now, is_new_day)
  end
  if level.account then
    level.account = credits.load(key, level)
  end
  return level
end

-- Levels of a path, root first, each loaded once per call however many share it. `book`: what the call has loaded, as a
-- list and by their keys.
local function path_of(book, keys, first, last, partition, now)
  local own = book[keys[last]]
  if own and own.path then
    return own.path
  end
  local path = {}
  for i = first, last do
    local key, depth = keys[i], i - first + 1
    local level = book[key]
    if not level then
      local number = #book + 1
      level = load_level(number, key, partition, depth, now)
      book[key], book[number] = level, level
    end
    path[depth] = level
  end
  path[#path].path = path
  return path
end

-- Saves what a call changed; what is to be written whole with one command for all, because a command is most of what it
-- costs. A denial consumes nothing.
local function save_levels(book)
  local whole = {}
  for i = 1, #book do
    if book[i].dirty then
      save_level(book[i], whole)
    end
  end
  if #whole > 0 then
    redis.call('MSET', unpack(whole))
  end
end

-- True when usage of one event day passes no counter's maximum. Of a past day nothing is counted here: its quota is
-- over, and reports count it from the ledger.
local function fits(levels, day, tokens, hi, lo)
  for _, level in ipairs(levels) do
    if day == level.day then
      if too_much(level.tokens + tokens, add(level.hi, level.lo, hi, lo)) then
        return false
      end
    elseif day == level.day + 1 then
      if too_much(level.next_tokens + tokens, add(level.next_hi, level.next_lo, hi, lo)) then
        return false
      end
    end
  end
  return true
end

-- Adds usage that fits to a level.
local function add_usage(level, day, tokens, hi, lo)
  if day == level.day then
    level.tokens = level.tokens + tokens
    level.hi, level.lo = add(level.hi, level.lo, hi, lo)
  elseif day == level.day + 1 then
    level.next_tokens = level.next_tokens + tokens
    level.next_hi, level.next_lo = add(level.next_hi, level.next_lo, hi, lo)
  end
end

-- Adds usage of records that fits to all levels of a path.
local function add_records(levels, day, tokens, hi, lo)
  for i = 1, #levels do
    local level = levels[i]
    level.before, level.dirty = level.before or { level.tokens, level.hi, level.lo }, true
    add_usage(level, day, tokens, hi, lo)
  end
end
