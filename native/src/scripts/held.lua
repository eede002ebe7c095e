-- SPDX-License-Identifier: Apache-2.0
-- What calls in flight hold at one level. Loaded behind amounts.lua.
--
-- Amounts lie in buckets by the second at which they expire and the day whose quota they count against, the last to
-- expire first: whoever loads the level next drops the expired ones, so nothing has to run for a hold to expire. A
-- bucket is a sum, however many holds it has; times to live are rounded up to a grid (see hold.rs), so there are some
-- hundred at most. Those that calls change are near the front, so that a level is seldom written whole.
--
-- Seconds here are those of a clock that never goes back: the store's, plus `shift`, which grows by each step back
-- that the level has seen. So a bucket that is gone never comes back to life, and a hold lives on through a step back.

-- Shift, sum of the buckets of the level's day (tokens, cost pair), number of buckets. The buckets follow.
local HELD = '<I8I8I8I8I4'
local HELD_SIZE = 36
-- Expiry second, day, tokens, cost pair.
local BUCKET = '<I4I4I8I8I4'
local BUCKET_KEY = '<I4I4'
local BUCKET_SIZE = 28

-- changed_size: of the buckets, how many bytes from the front on have to be written. new_expiry, new_day: of the bucket
-- that new_tokens, new_hi and new_lo are still to be put into; false for none.
local function make_held(shift, tokens, hi, lo, buckets)
  return { shift = shift, tokens = tokens, hi = hi, lo = lo, changed_size = 0, buckets = buckets, new_expiry = false,
    new_day = 0, new_tokens = 0, new_hi = 0, new_lo = 0 }
end

-- Tables of what is held, by the number of the level in its call: as with those of levels, no call keeps one.
local held_tables = {}

-- Returns what is held and the position behind it.
local function decode_held(number, packed, position)
  local shift, tokens, hi, lo, count, first = struct.unpack(HELD, packed, position)
  local behind = first + count * BUCKET_SIZE
  local buckets, held = count > 0 and string.sub(packed, first, behind - 1) or '', held_tables[number]
  if not held then
    held = make_held(shift, tokens, hi, lo, buckets)
    held_tables[number] = held
    return held, behind
  end
  held.shift, held.tokens, held.hi, held.lo, held.buckets = shift, tokens, hi, lo, buckets
  held.changed_size, held.new_expiry = 0, false
  return held, behind
end

-- What stands in front of the buckets.
local function pack_held(held)
  return struct.pack(HELD, held.shift, held.tokens, held.hi, held.lo, #held.buckets / BUCKET_SIZE)
end

-- Position of the first bucket that does not expire after the key.
local function find_bucket(buckets, expiry, day)
  local low, high = 0, #buckets / BUCKET_SIZE
  while low < high do
    local middle = math.floor((low + high) / 2)
    local found_expiry, found_day = struct.unpack(BUCKET_KEY, buckets, middle * BUCKET_SIZE + 1)
    if found_expiry > expiry or (found_expiry == expiry and found_day > day) then
      low = middle + 1
    else
      high = middle
    end
  end
  return low * BUCKET_SIZE + 1
end

-- Puts amounts into a bucket (sign 1) or takes them out (sign -1). False when there is none to take them out of:
-- nothing was held, or the level was deleted meanwhile.
local function change_bucket(level, expiry, day, tokens, hi, lo, sign)
  local held = level.held
  local buckets, change = held.buckets, sign > 0 and add or subtract
  local at, found_expiry, found_day, sum_tokens, sum_hi, sum_lo = 1, 0, 0, 0, 0, 0
  if #buckets > 0 then
    found_expiry, found_day, sum_tokens, sum_hi, sum_lo = struct.unpack(BUCKET, buckets)
    -- A hold that is placed now is most often among the last to expire, which stand in front.
    if found_expiry > expiry or (found_expiry == expiry and found_day > day) then
      at = find_bucket(buckets, expiry, day)
      if at <= #buckets then
        found_expiry, found_day, sum_tokens, sum_hi, sum_lo = struct.unpack(BUCKET, buckets, at)
      end
    end
  end
  local behind = at + BUCKET_SIZE
  if found_expiry ~= expiry or found_day ~= day then
    if sign < 0 then
      return false
    end
    behind, sum_tokens, sum_hi, sum_lo, level.resized = at, 0, 0, 0, true
  end
  level.dirty = true
  sum_tokens = sum_tokens + sign * tokens
  sum_hi, sum_lo = change(sum_hi, sum_lo, hi, lo)
  local bucket = ''
  if sum_tokens > 0 or sum_hi > 0 or sum_lo > 0 then
    bucket = struct.pack(BUCKET, expiry, day, sum_tokens, sum_hi, sum_lo)
    if held.changed_size < behind - 1 then
      held.changed_size = behind - 1
    end
  else
    level.resized = true
  end
  if at == 1 and behind > #buckets then
    held.buckets = bucket
  else
    held.buckets = string.sub(buckets, 1, at - 1) .. bucket .. string.sub(buckets, behind)
  end
  return true
end

-- Puts what was held last into its bucket. To be called before buckets are looked at, or saved.
local function fill_bucket(level)
  local held = level.held
  local expiry = held.new_expiry
  if expiry then
    held.new_expiry = false
    change_bucket(level, expiry, held.new_day, held.new_tokens, held.new_hi, held.new_lo, 1)
  end
end

-- Holds amounts. Those of calls that come together most often expire together, too, and then fill one bucket at once.
local function hold_more(level, expiry, day, tokens, hi, lo)
  local held = level.held
  if held.new_expiry ~= expiry or held.new_day ~= day then
    fill_bucket(level)
    held.new_expiry, held.new_day, held.new_tokens, held.new_hi, held.new_lo = expiry, day, 0, 0, 0
  end
  held.new_tokens = held.new_tokens + tokens
  held.new_hi, held.new_lo = add(held.new_hi, held.new_lo, hi, lo)
  if day == level.day then
    held.tokens = held.tokens + tokens
    held.hi, held.lo = add(held.hi, held.lo, hi, lo)
  end
  level.dirty = true
end

-- Holds amounts no longer.
local function hold_less(level, expiry, day, tokens, hi, lo)
  local held = level.held
  fill_bucket(level)
  if change_bucket(level, expiry, day, tokens, hi, lo, -1) and day == level.day then
    held.tokens = held.tokens - tokens
    held.hi, held.lo = subtract(held.hi, held.lo, hi, lo)
  end
end

-- Sum of the buckets of one day.
local function held_of_day(level, wanted)
  fill_bucket(level)
  local held, sum_tokens, sum_hi, sum_lo = level.held, 0, 0, 0
  for position = 1, #held.buckets, BUCKET_SIZE do
    local _, day, tokens, hi, lo = struct.unpack(BUCKET, held.buckets, position)
    if day == wanted then
      sum_tokens = sum_tokens + tokens
      sum_hi, sum_lo = add(sum_hi, sum_lo, hi, lo)
    end
  end
  return sum_tokens, sum_hi, sum_lo
end

-- Drops what has expired. When the level has come to another day, the sum becomes that day's.
local function roll_held(level, now, is_new_day)
  local held = level.held
  local clock, size = now + held.shift, #held.buckets
  while size > 0 do
    local expiry, day, tokens, hi, lo = struct.unpack(BUCKET, held.buckets, size - BUCKET_SIZE + 1)
    if expiry > clock then
      break
    end
    if day == level.day and not is_new_day then
      held.tokens = held.tokens - tokens
      held.hi, held.lo = subtract(held.hi, held.lo, hi, lo)
    end
    size = size - BUCKET_SIZE
  end
  if size < #held.buckets then
    held.buckets = string.sub(held.buckets, 1, size)
    level.resized = true
  end
  if is_new_day then
    held.tokens, held.hi, held.lo = held_of_day(level, level.day)
    level.resized = true
  end
end

-- True when one more amount of a day would pass what a counter can hold.
local function held_too_much(level, day, tokens, hi, lo)
  local held = level.held
  local sum_tokens, sum_hi, sum_lo = held.tokens, held.hi, held.lo
  if day ~= level.day then
    sum_tokens, sum_hi, sum_lo = held_of_day(level, day)
  end
  return too_much(sum_tokens + tokens, add(sum_hi, sum_lo, hi, lo))
end

-- First second at which so much of what the level's day holds has expired, nil when not all of it is ever held.
local function held_free_at(level, tokens, hi, lo)
  fill_bucket(level)
  local held = level.held
  local sum_tokens, sum_hi, sum_lo = 0, 0, 0
  for position = #held.buckets - BUCKET_SIZE + 1, 1, -BUCKET_SIZE do
    local expiry, day, more_tokens, more_hi, more_lo = struct.unpack(BUCKET, held.buckets, position)
    if day == level.day then
      sum_tokens = sum_tokens + more_tokens
      sum_hi, sum_lo = add(sum_hi, sum_lo, more_hi, more_lo)
    end
    if sum_tokens >= tokens and not less(sum_hi, sum_lo, hi, lo) then
      return expiry - held.shift
    end
  end
  return nil
end
