-- SPDX-License-Identifier: Apache-2.0
-- Holds: amounts that a call in flight reserves until it is recorded, released, or out of time. Loaded behind
-- decide.lua.
--
-- A hold is a mark under a key of its own, and its amounts in a bucket at each level. Whether the amounts still count
-- is the buckets' word alone: a hold is live at a level while the second noted for that level has not come. The mark
-- says what became of the hold; it outlives it for a while, so that a repeated call finds its answer, and vanishes by
-- the store's own means. Losing it frees nothing and keeps nothing.

-- By number of levels. State, fingerprint of the check, time of its card, day, tokens, cost pair. Then a number per
-- level: the expiry second of a hold; of a denial the flags that failed; of a check without a hold nothing that counts.
local MARK = { '<Bc16I8I4I8I8I4I4' }
for level_count = 2, 4 do
  MARK[level_count] = MARK[level_count - 1] .. 'I4'
end
local HELD_STATE, SETTLED, RELEASED, EXPIRED, SETTLED_BEFORE, UNKNOWN, NO_HOLD, REFUSED = 1, 2, 3, 4, 5, 6, 7, 8

local function decode_mark(packed, level_count)
  local state, fingerprint, card_time, day, tokens, hi, lo, a, b, c, d = struct.unpack(MARK[level_count], packed)
  -- Behind the last number stands a position; it is not looked at.
  return { state = state, fingerprint = fingerprint, card_time = card_time, day = day, tokens = tokens, hi = hi,
    lo = lo, numbers = { a, b, c, d } }
end

local function pack_mark(mark, level_count)
  return struct.pack(MARK[level_count], mark.state, mark.fingerprint, mark.card_time, mark.day, mark.tokens, mark.hi,
    mark.lo, unpack(mark.numbers, 1, level_count))
end

-- An absolute time goes into the append-only file as it is.
local function keep_mark(key, mark, levels, now, seconds)
  redis.call('SET', key, pack_mark(mark, #levels), 'PXAT', (now + seconds) * 1000)
end

local function is_live_at(level, mark, i)
  return level.held and mark.numbers[i] > level.second + level.held.shift
end

-- State of a hold as of now, by the tenant's own level.
local function state_of(mark, levels)
  if mark.state == HELD_STATE and not is_live_at(levels[#levels], mark, #levels) then
    return EXPIRED
  end
  return mark.state
end

-- Seconds to keep the mark of a hold: as long as it may live, and some more.
local function mark_seconds(mark, levels, keep)
  local own = levels[#levels]
  return mark.numbers[#levels] - own.second - own.held.shift + keep
end

-- Expiry of a hold that begins now, in the level's own seconds, on the grid.
local function expiry_from(level, ttl, grid)
  return math.ceil((level.second + level.held.shift + 1 + ttl) / grid) * grid
end

-- Takes out what a hold still holds.
local function free_hold(levels, mark)
  for i, level in ipairs(levels) do
    if is_live_at(level, mark, i) then
      change_held(level, mark.numbers[i], mark.day, mark.tokens, mark.hi, mark.lo, -1)
    end
  end
end

local function any_too_much(levels, day, tokens, hi, lo)
  for _, level in ipairs(levels) do
    if held_too_much(level, day, tokens, hi, lo) then
      return true
    end
  end
  return false
end

-- What the caller is told of a hold: time of its card, its day, when it expires, its cost.
local function pack_hold(mark, levels)
  local own = levels[#levels]
  local expire = mark.state ~= REFUSED and own.held and mark.numbers[#levels] - own.held.shift or 0
  return struct.pack('<I8I8I8I8I8', mark.card_time, mark.day, math.max(expire, 0), mark.hi, mark.lo)
end

local CONFLICT, TOO_MUCH = 2, 3
local FIRST, REPEATED = '\0', '\1'

-- Flags of the limits that had no room once, without those removed since.
local function full_still_set(mark, levels)
  local full = {}
  for i, level in ipairs(levels) do
    full[i] = common_flags(mark.numbers[i], level.flags)
  end
  return full
end

local function no_numbers(levels)
  local numbers = {}
  for i = 1, #levels do
    numbers[i] = 0
  end
  return numbers
end

-- Places a hold at all levels and notes when it expires at each; false when a counter would overflow.
local function place_hold(levels, mark, ttl, grid)
  local day, tokens, hi, lo, numbers = mark.day, mark.tokens, mark.hi, mark.lo, mark.numbers
  for i = 1, #levels do
    local level = levels[i]
    if not level.held then
      level.held, level.resized = new_held(), true
    elseif held_too_much(level, day, tokens, hi, lo) then
      return false
    end
  end
  for i = 1, #levels do
    local level = levels[i]
    numbers[i] = expiry_from(level, ttl, grid)
    change_held(level, numbers[i], day, tokens, hi, lo, 1)
  end
  return true
end

-- reserve. A check that is remembered, or places a hold, or both. KEYS: mark; tenant levels, root first.
-- ARGV: partition; '<I8I8I8I8I8I4I4I4B' requests, tokens, cost pair, time of the card, time to live in seconds (0: no
-- hold), grid, seconds to remember it for, whether the caller named the request; fingerprint of the request.
-- Returns DECISION, FIRST or REPEATED, what pack_hold says, then one LevelStatus per level. Or one byte: CONFLICT (the
-- mark is of another request), TOO_MUCH (a counter would overflow).
local function reserve(keys, args)
  if not opened[args[1]] then
    return redis.error_reply('NOTOPEN')
  end
  local requests, tokens, hi, lo, card_time, ttl, grid, keep, is_named = struct.unpack('<I8I8I8I8I8I4I4I4B', args[2])
  local now, micros = store_seconds()
  local packed = is_named == 1 and redis.call('GET', keys[1])
  local levels = load_levels(keys, 2, #keys, args[1], now)
  local need = need_of(requests, tokens, hi, lo)
  if packed then
    local before = decode_mark(packed, #levels)
    if before.fingerprint ~= args[3] then
      return struct.pack('<B', CONFLICT)
    end
    local hold = REPEATED .. pack_hold(before, levels)
    local denied = before.state == REFUSED
    return pack_answer(levels, denied, denied and full_still_set(before, levels), need, now, micros, hold)
  end
  local full, denied = find_all_full(levels, need)
  local mark = { state = denied and REFUSED or NO_HOLD, fingerprint = args[3], card_time = card_time,
    day = levels[1].day, tokens = tokens, hi = hi, lo = lo, numbers = denied and full or no_numbers(levels) }
  if not denied and ttl > 0 then
    mark.state = HELD_STATE
    if not place_hold(levels, mark, ttl, grid) then
      return struct.pack('<B', TOO_MUCH)
    end
    keep = mark_seconds(mark, levels, keep)
  end
  local events = not denied and count_requests(levels, keys, 2, requests)
  if events then
    append_events(args[1], events)
  end
  save_levels(keys, 2, levels, not denied)
  if mark.state == HELD_STATE or is_named == 1 then
    keep_mark(keys[1], mark, levels, now, keep)
  end
  return pack_answer(levels, denied, full, need, now, micros, FIRST .. pack_hold(mark, levels))
end

-- Flags of the day limits that have no room for what a hold is to have in addition, nil when all have; and whether any
-- of them denies. The limits of a day that is over stand in nobody's way.
local function find_too_small(levels, day, need)
  local wanted = (need.tokens > 0 and HAS_TOKENS or 0) + ((need.hi > 0 or need.lo > 0) and HAS_COST or 0)
  local full, any, denied = {}, false, false
  for i, level in ipairs(levels) do
    full[i] = level.day == day and common_flags(wanted, find_full(level, 0, need.tokens, need.hi, need.lo)) or 0
    any = any or full[i] ~= 0
    denied = denied or denying(level, full[i]) ~= 0
  end
  return any and full or nil, denied
end

-- extend. KEYS: mark; tenant levels. ARGV: partition; '<I8I8I8I4I4I4' tokens and cost pair that the hold is to have in
-- all, time to live from now, grid, seconds to remember it for. Neither amounts nor expiry ever become less, so that a
-- call that is repeated, or comes late, takes nothing back.
-- Returns DECISION, state, and for a hold that was live what pack_hold says, then one LevelStatus per level. Or one
-- byte: TOO_MUCH. A hold that the limits do not let grow stays as it was, its expiry too.
local function extend(keys, args)
  if not opened[args[1]] then
    return redis.error_reply('NOTOPEN')
  end
  local tokens, hi, lo, ttl, grid, keep = struct.unpack('<I8I8I8I4I4I4', args[2])
  local now, micros = store_seconds()
  local packed = redis.call('GET', keys[1])
  local levels = load_levels(keys, 2, #keys, args[1], now)
  local mark = packed and decode_mark(packed, #levels)
  local state = mark and state_of(mark, levels) or UNKNOWN
  if state ~= HELD_STATE then
    return struct.pack(DECISION, DENIED, now, micros, 0) .. struct.pack('<B', state)
  end
  local more_hi, more_lo = cost_beyond(hi, lo, mark.hi, mark.lo)
  local need = { requests = 0, tokens = beyond(tokens, mark.tokens), hi = more_hi, lo = more_lo }
  local full, denied = find_too_small(levels, mark.day, need)
  if not denied then
    if any_too_much(levels, mark.day, need.tokens, need.hi, need.lo) then
      return struct.pack('<B', TOO_MUCH)
    end
    free_hold(levels, mark)
    mark.tokens = mark.tokens + need.tokens
    mark.hi, mark.lo = add(mark.hi, mark.lo, need.hi, need.lo)
    for i, level in ipairs(levels) do
      mark.numbers[i] = math.max(mark.numbers[i], expiry_from(level, ttl, grid))
      change_held(level, mark.numbers[i], mark.day, mark.tokens, mark.hi, mark.lo, 1)
    end
    keep_mark(keys[1], mark, levels, now, mark_seconds(mark, levels, keep))
  end
  save_levels(keys, 2, levels, not denied)
  local hold = struct.pack('<B', state) .. pack_hold(mark, levels)
  return pack_answer(levels, denied, full, need, now, micros, hold)
end

-- The first byte of a mark is its state; the rest, and the time it is kept for, stay.
local function end_hold(key, state)
  redis.call('SETRANGE', key, 0, struct.pack('<B', state))
end

-- release. KEYS: mark; tenant levels. ARGV: partition. Returns one byte: the state of the hold afterwards.
local function release(keys, args)
  if not opened[args[1]] then
    return redis.error_reply('NOTOPEN')
  end
  local now = store_seconds()
  local packed = redis.call('GET', keys[1])
  local levels = load_levels(keys, 2, #keys, args[1], now)
  local mark = packed and decode_mark(packed, #levels)
  local state = mark and state_of(mark, levels) or UNKNOWN
  if state == HELD_STATE then
    state = RELEASED
    free_hold(levels, mark)
    save_levels(keys, 2, levels, true)
    end_hold(keys[1], state)
  end
  return struct.pack('<B', state)
end

-- Settles a hold by what was really used. `settled`: marks that this call has settled already, by their keys.
-- Returns '<BI8I8I8' state before, or SETTLED when this did it; tokens and cost pair beyond the hold.
local SETTLEMENT = '<BI8I8I8'
local function settle(key, settled, levels, tokens, hi, lo)
  local packed = redis.call('GET', key)
  local mark = packed and decode_mark(packed, #levels)
  local state = mark and state_of(mark, levels) or EXPIRED
  if settled[key] or state == SETTLED then
    return struct.pack(SETTLEMENT, SETTLED_BEFORE, 0, 0, 0)
  elseif state ~= HELD_STATE then
    return struct.pack(SETTLEMENT, state == RELEASED and RELEASED or EXPIRED, 0, 0, 0)
  end
  settled[key] = true
  free_hold(levels, mark)
  local over_hi, over_lo = cost_beyond(hi, lo, mark.hi, mark.lo)
  return struct.pack(SETTLEMENT, SETTLED, beyond(tokens, mark.tokens), over_hi, over_lo)
end
