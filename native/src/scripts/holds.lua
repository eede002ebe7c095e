-- SPDX-License-Identifier: Apache-2.0
-- Holds: amounts that a call in flight reserves until it is recorded, released, or out of time. Loaded behind
-- marks.lua.
--
-- A hold is a mark, see marks.lua, and its amounts in a bucket at each level. Whether the amounts still count is the
-- buckets' word alone: a hold is live at a level while the second noted for that level has not come. The mark says what
-- became of the hold. Losing it frees nothing and keeps nothing.

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

-- Second until which the mark of a hold is kept: as long as it may live, and so many seconds more.
local function mark_until(mark, levels, keep)
  local own = levels[#levels]
  return mark.numbers[#levels] - own.held.shift + keep
end

-- Expiry of a hold that begins now, in the level's own seconds, on the grid.
local function expiry_from(level, ttl, grid)
  return math.ceil((level.second + level.held.shift + 1 + ttl) / grid) * grid
end

-- Takes out what a hold still holds.
local function free_hold(levels, mark)
  for i, level in ipairs(levels) do
    if is_live_at(level, mark, i) then
      hold_less(level, mark.numbers[i], mark.day, mark.tokens, mark.hi, mark.lo)
    end
  end
  local root = levels[1]
  if mark.claims ~= '' and root.account and is_live_at(root, mark, 1) then
    credits.unclaim(root.account, mark.numbers[1], mark.claims)
    root.dirty = true
  end
end

-- What a hold that is live may have of each grant although it has expired; nil when it claims nothing.
local function claims_of_hold(key, name, partition, levels)
  local mark = find_hold(key, name, partition, #levels)
  if mark and mark.claims ~= '' and state_of(mark, levels) == HELD_STATE then
    return credits.read_claims(mark.claims)
  end
  return nil
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
-- Of a hold that was placed without a name: day, when it expires; 0 when it was denied.
local HELD_ONCE = '<I8I8'

-- Flags of the limits that had no room once, without those removed since.
local function full_still_set(mark, levels)
  local full = {}
  for i, level in ipairs(levels) do
    full[i] = common_flags(mark.numbers[i], level.flags + (level.account and HAS_CREDITS or 0))
  end
  return full
end

-- Places a hold at all levels and notes when it expires at each; false when a counter would overflow.
local function place_hold(levels, numbers, day, tokens, hi, lo, ttl, grid)
  for i = 1, #levels do
    local level = levels[i]
    if not level.held then
      level.held, level.resized = make_held(0, 0, 0, 0, ''), true
    elseif held_too_much(level, day, tokens, hi, lo) then
      return false
    end
  end
  for i = 1, #levels do
    local level = levels[i]
    numbers[i] = expiry_from(level, ttl, grid)
    hold_more(level, numbers[i], day, tokens, hi, lo)
  end
  return true
end

-- A check: flags, number of levels, partition; requests, tokens, cost pair. Where it has a mark then time to live in
-- seconds (0: no hold), grid, seconds to remember it for, and, where it is named, the fingerprint of the request and
-- the time of the card, and else the name of the hold. At last, where it says what the call is to cost, that as
-- credits.read_call takes it.
local DRY_RUN, IS_NAMED, HAS_MARK = 1, 2, 4
local ASKED, ASKED_FIRST = '<I8I8I8I8', 4
local HOLDING = ASKED .. 'I4I4I4c16'
local NAMED = HOLDING .. 'I8'

-- A check that is remembered, and may place a hold. `marks`: those that this call is to write, by their keys, and as a
-- list of key, mark, and until when it is kept. Returns the answer, and the events.
local function reserve(marks, key, check, levels, events)
  local requests, tokens, hi, lo, ttl, grid, keep, fingerprint, card_time, behind =
    struct.unpack(NAMED, check, ASKED_FIRST)
  local account = levels[1].account
  local call = account and credits.need(account, check, behind)
  local packed = marks[key] or redis.call('GET', key)
  if packed then
    local before = decode_mark(key, packed, #levels)
    if before.fingerprint ~= fingerprint then
      return struct.pack('<B', CONFLICT), events
    end
    local hold = REPEATED .. pack_hold(before, levels)
    local denied = before.state == REFUSED
    local full, need = denied and full_still_set(before, levels), need_of(requests, tokens, hi, lo)
    need.call = call
    return pack_answer(levels, denied, full, need, hold), events
  end
  local full, denied, need = find_all_full(levels, requests, tokens, hi, lo, call)
  local mark = { state = denied and REFUSED or NO_HOLD, fingerprint = fingerprint, card_time = card_time,
    day = levels[1].day, tokens = tokens, hi = hi, lo = lo, numbers = denied and full or { 0, 0, 0, 0 }, claims = '' }
  local keep_until = levels[1].second + keep
  if not denied and ttl > 0 then
    mark.state = HELD_STATE
    if not place_hold(levels, mark.numbers, mark.day, tokens, hi, lo, ttl, grid) then
      return struct.pack('<B', TOO_MUCH), events
    end
    if account then
      mark.claims = credits.claim(account, call, mark.numbers[1])
    end
    keep_until = mark_until(mark, levels, keep)
  end
  if not denied then
    events = count_requests(levels, requests, events)
  end
  add_mark(marks, key, pack_mark(mark, #levels), keep_until)
  return pack_answer(levels, denied, full, need, FIRST .. pack_hold(mark, levels)), events
end

-- A check that places a hold and has no name, so that nobody asks for it again. place: key of the hash for its mark.
-- Returns the answer, and the events.
local function hold_once(marks, places, place, check, levels, partition, events)
  local requests, tokens, hi, lo, ttl, grid, keep, name, behind = struct.unpack(HOLDING, check, ASKED_FIRST)
  local account = levels[1].account
  local call = account and credits.need(account, check, behind)
  local full, denied, need = find_all_full(levels, requests, tokens, hi, lo, call)
  if denied then
    return pack_answer(levels, true, full, need, struct.pack(HELD_ONCE, 0, 0)), events
  end
  local numbers, own = { 0, 0, 0, 0 }, levels[#levels]
  if not place_hold(levels, numbers, own.day, tokens, hi, lo, ttl, grid) then
    return struct.pack('<B', TOO_MUCH), events
  end
  local claims = account and credits.claim(account, call, numbers[1]) or ''
  if claims == '' then
    put_in_place(places, place, name, own.day, tokens, hi, lo, numbers, #levels, keep)
  else
    local mark = { state = HELD_STATE, fingerprint = NO_FINGERPRINT, card_time = 0, day = own.day, tokens = tokens,
      hi = hi, lo = lo, numbers = numbers, claims = claims }
    add_mark(marks, own_key(partition, name), pack_mark(mark, #levels), own.second + keep)
  end
  events = count_requests(levels, requests, events)
  return pack_answer(levels, false, full, need,
    struct.pack(HELD_ONCE, own.day, numbers[#levels] - own.held.shift)), events
end

-- decide. Checks of any partitions, decided one after the other. KEYS: per check its mark or place, where flagged, and
-- its tenant levels, root first. ARGV: the checks.
-- Returns CLOCK, then per check DECISION, where it has a name FIRST or REPEATED and what pack_hold says, and where it
-- has a mark but no name HELD_ONCE, and one LevelStatus per level. Or, of a check with a mark, one byte: CONFLICT (the
-- mark is of another request), TOO_MUCH (a counter would overflow).
local function decide(keys, args)
  local now, micros = store_seconds()
  local book, marks, places, key, events = {}, {}, {}, 1, nil
  local replies = { struct.pack(CLOCK, now, micros) }
  for i = 1, #args do
    local check = args[i]
    local flags, level_count, number = string.byte(check, 1, 3)
    local set, partition = BITS[flags], PARTITIONS[number]
    if not opened[partition] then
      return redis.error_reply('NOTOPEN')
    end
    local first = set[HAS_MARK] and key + 1 or key
    local levels = path_of(book, keys, first, first + level_count - 1, partition, now)
    if set[IS_NAMED] then
      replies[i + 1], events = reserve(marks, keys[key], check, levels, events)
    elseif set[HAS_MARK] then
      replies[i + 1], events = hold_once(marks, places, keys[key], check, levels, partition, events)
    else
      local requests, tokens, hi, lo, behind = struct.unpack(ASKED, check, ASKED_FIRST)
      local account = levels[1].account
      local call = account and credits.need(account, check, behind)
      local full, denied, need = find_all_full(levels, requests, tokens, hi, lo, call)
      if not denied and not set[DRY_RUN] then
        events = count_requests(levels, requests, events)
      end
      replies[i + 1] = pack_answer(levels, denied, full, need, '')
    end
    key = first + level_count
  end
  save_places(places)
  append_events(events)
  save_levels(book)
  save_marks(marks)
  return replies
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

-- extend. KEYS: mark or place; tenant levels. ARGV: partition; name, where it has a place; '<I8I8I8I4I4I4' tokens and
-- cost pair that the hold is to have in all, time to live from now, grid, seconds to remember it for, and as for a
-- check what the call is to cost. Neither amounts nor expiry ever become less, so that a call that is repeated, or
-- comes late, takes nothing back.
-- Returns CLOCK, DECISION, state, and for a hold that was live what pack_hold says, then one LevelStatus per level. Or
-- one byte: TOO_MUCH. A hold that the limits do not let grow stays as it was, its expiry too.
local function extend(keys, args)
  if not opened[args[1]] then
    return redis.error_reply('NOTOPEN')
  end
  local tokens, hi, lo, ttl, grid, keep, behind = struct.unpack('<I8I8I8I4I4I4', args[3])
  local now, micros = store_seconds()
  local clock, book = struct.pack(CLOCK, now, micros), {}
  local levels = path_of(book, keys, 2, #keys, args[1], now)
  local mark = find_hold(keys[1], args[2], args[1], #levels)
  local state = mark and state_of(mark, levels) or UNKNOWN
  if state ~= HELD_STATE then
    return clock .. struct.pack(DECISION, DENIED, 0) .. struct.pack('<B', state)
  end
  local more_hi, more_lo = cost_beyond(hi, lo, mark.hi, mark.lo)
  local need = { requests = 0, tokens = beyond(tokens, mark.tokens), hi = more_hi, lo = more_lo }
  local full, denied = find_too_small(levels, mark.day, need)
  local account = levels[1].account
  if account then
    need.call = credits.need(account, args[3], behind)
    local is_short, denies = credits.is_short_again(account, need.call, mark.claims)
    if is_short then
      full = full or { 0, 0, 0, 0 }
      full[1], denied = full[1] + HAS_CREDITS, denied or denies
    end
  end
  if not denied then
    if any_too_much(levels, mark.day, need.tokens, need.hi, need.lo) then
      return struct.pack('<B', TOO_MUCH)
    end
    local claims, until_before = mark.claims, mark.numbers[1]
    mark.claims = ''
    free_hold(levels, mark)
    mark.tokens = mark.tokens + need.tokens
    mark.hi, mark.lo = add(mark.hi, mark.lo, need.hi, need.lo)
    for i, level in ipairs(levels) do
      mark.numbers[i] = math.max(mark.numbers[i], expiry_from(level, ttl, grid))
      hold_more(level, mark.numbers[i], mark.day, mark.tokens, mark.hi, mark.lo)
    end
    if account then
      mark.claims = credits.claim_again(account, need.call, until_before, mark.numbers[1], claims)
      levels[1].dirty = true
    end
    -- From now on under a key of its own: its place need not last so long.
    if mark.name ~= '' then
      redis.call('HDEL', mark.key, mark.name)
      mark.key = own_key(args[1], mark.name)
    end
    keep_mark(mark.key, pack_mark(mark, #levels), mark_until(mark, levels, keep))
  end
  save_levels(book)
  return clock .. pack_answer(levels, denied, full, need, struct.pack('<B', state) .. pack_hold(mark, levels))
end

-- release. KEYS: mark or place; tenant levels. ARGV: partition; name, where it has a place. Returns one byte: the state
-- of the hold afterwards.
local function release(keys, args)
  if not opened[args[1]] then
    return redis.error_reply('NOTOPEN')
  end
  local book = {}
  local levels = path_of(book, keys, 2, #keys, args[1], (store_seconds()))
  local mark = find_hold(keys[1], args[2], args[1], #levels)
  local state = mark and state_of(mark, levels) or UNKNOWN
  if state == HELD_STATE then
    state = RELEASED
    free_hold(levels, mark)
    save_levels(book)
    end_hold(mark.key, mark.name, state)
  end
  return struct.pack('<B', state)
end

-- Settles the hold of a record by what was really used, and notes at the item where its mark is. `settled`: holds that
-- this call has settled already. Returns SETTLEMENT: state before, or SETTLED when this did it; tokens and cost pair
-- beyond the hold.
local SETTLEMENT = '<BI8I8I8'
local function settle(item, settled, levels)
  local mark = find_hold(item.hold, item.hold_name, item.partition, #levels)
  local state, id = mark and state_of(mark, levels) or EXPIRED, item.hold_name ~= '' and item.hold_name or item.hold
  if settled[id] or state == SETTLED then
    return struct.pack(SETTLEMENT, SETTLED_BEFORE, 0, 0, 0)
  elseif state ~= HELD_STATE then
    return struct.pack(SETTLEMENT, state == RELEASED and RELEASED or EXPIRED, 0, 0, 0)
  end
  settled[id], item.hold, item.hold_name = true, mark.key, mark.name
  free_hold(levels, mark)
  local over_hi, over_lo = cost_beyond(item.hi, item.lo, mark.hi, mark.lo)
  return struct.pack(SETTLEMENT, SETTLED, beyond(item.tokens, mark.tokens), over_hi, over_lo)
end
