-- SPDX-License-Identifier: Apache-2.0
-- What the limits say: how a check is decided, quota_status, count, put_limits, remove_limits. Loaded behind
-- thresholds.lua.

-- Freed seconds: 0 when not asked for, this when no wait can help.
local NEVER = 1
-- What follows in a status: what is held; when the day's limits are free; which limits are temporary.
local SHOWS_HELD, SHOWS_FREE, SHOWS_TEMPORARY, SHOWS_CREDITS = 1, 2, 4, 8

-- Which limits of a level have no room for so much.
local function find_full(level, requests, tokens, hi, lo)
  local flags, held, full = level.flags, level.held, 0
  local set = BITS[flags]
  if set[HAS_REQUESTS] and level.sum + requests > level.limit_requests then
    full = HAS_REQUESTS
  end
  if set[HAS_TOKENS] and level.tokens + (held and held.tokens or 0) + tokens > level.limit_tokens then
    full = full + HAS_TOKENS
  end
  if set[HAS_COST] then
    local sum_hi, sum_lo = add(level.hi, level.lo, hi, lo)
    if held then
      sum_hi, sum_lo = add(sum_hi, sum_lo, held.hi, held.lo)
    end
    if less(level.limit_hi, level.limit_lo, sum_hi, sum_lo) then
      full = full + HAS_COST
    end
  end
  return full
end

-- When a day's limit that is full has room: as holds expire today, at midnight, or, where tomorrow has usage already, a
-- day later. `need`: tokens and cost pair of the call, of which one limit knows one.
local function day_free_at(level, flag, tokens, hi, lo)
  local midnight = (level.day + 1) * DAY_SECONDS
  local function is_over(used_tokens, used_hi, used_lo)
    if flag == HAS_TOKENS then
      return used_tokens + tokens > level.limit_tokens
    end
    return less(level.limit_hi, level.limit_lo, add(used_hi, used_lo, hi, lo))
  end
  if is_over(0, 0, 0) then
    return NEVER
  end
  if not has(find_full(level, 0, tokens, hi, lo), flag) then
    -- What was denied once, and is asked about again, may have room by now.
    return level.second
  end
  if level.held and not is_over(level.tokens, level.hi, level.lo) then
    local sum_hi, sum_lo = add(level.hi, level.lo, add(level.held.hi, level.held.lo, hi, lo))
    local excess_tokens = beyond(level.tokens + level.held.tokens + tokens, level.limit_tokens)
    local excess_hi, excess_lo = cost_beyond(sum_hi, sum_lo, level.limit_hi, level.limit_lo)
    local free = flag == HAS_TOKENS and held_free_at(level, excess_tokens, 0, 0)
      or flag == HAS_COST and held_free_at(level, 0, excess_hi, excess_lo)
    if free and free < midnight then
      return free
    end
  end
  return is_over(level.next_tokens, level.next_hi, level.next_lo) and midnight + DAY_SECONDS or midnight
end

-- When requests have room in the window, 0 for now.
local function requests_free_at(level, requests)
  local missing = level.sum + requests - level.limit_requests
  if not has(level.flags, HAS_REQUESTS) or missing <= 0 then
    return 0
  end
  return requests > level.limit_requests and NEVER or window_free_at(level, missing)
end

-- LevelStatus, see quota.rs: flags; flags of limits without room; what follows; requests maximum/used/free second,
-- tokens maximum/used, cost maximum/used as pairs; where it follows, tokens and cost held; free seconds of tokens and
-- cost; flags of temporary limits, and until when; of credits the maximum, used, held, and the free second. A level
-- without limits is one zero byte.
-- `others`: what the limits that have room are asked for, when they have room for it.
local function pack_status(level, full, need, others)
  local flags, account = level.flags, level.account
  if account then
    flags = flags + credits.flags(account)
  elseif flags == 0 then
    return '\0'
  end
  local held, settings, day_full, shows, behind = level.held, level.settings, full - full % 2, 0, ''
  if held and (held.tokens > 0 or held.hi > 0 or held.lo > 0) then
    shows = SHOWS_HELD
    behind = struct.pack('<I8I8I8', held.tokens, held.hi, held.lo)
  end
  if day_full > 0 then
    shows = shows + SHOWS_FREE
    behind = behind .. struct.pack('<I8I8',
      has(full, HAS_TOKENS) and day_free_at(level, HAS_TOKENS, need.tokens, need.hi, need.lo) or 0,
      has(full, HAS_COST) and day_free_at(level, HAS_COST, need.tokens, need.hi, need.lo) or 0)
  end
  if settings and settings.temporary then
    shows = shows + SHOWS_TEMPORARY
    behind = behind .. struct.pack('<BI8', string.byte(settings.temporary), settings.until_second)
  end
  if account then
    shows = shows + SHOWS_CREDITS
    behind = behind .. credits.status(account)
      .. struct.pack('<I8', has(full, HAS_CREDITS) and credits.free_at(account, need.call) or NEVER)
  end
  return struct.pack('<BBBI8I8I8I8I8I8I8I8I8', flags, full, shows, level.limit_requests, level.sum,
    requests_free_at(level, has(full, HAS_REQUESTS) and need.requests or others.requests), level.limit_tokens,
    level.tokens, level.limit_hi, level.limit_lo, level.hi, level.lo) .. behind
end

-- What an allowed call is shown: when one more would fit.
local ONE_MORE = { requests = 1, tokens = 0, hi = 0, lo = 0 }

-- `full`: flags of limits without room for the need, by level; nil when all have room, and then the need may be nil.
local function pack_statuses(levels, full, need, others)
  local statuses = ''
  for i = 1, #levels do
    statuses = statuses .. pack_status(levels[i], full and full[i] or 0, need, others or need)
  end
  return statuses
end

-- Of limits without room, those that deny: not the ones that are only watched.
local function denying(level, full)
  return full - common_flags(full, math.floor(level.flags / SHADOW))
end

-- What a call needs room for: one that estimates nothing, still for something.
local function need_of(requests, tokens, hi, lo)
  return { requests = requests, tokens = math.max(tokens, 1), hi = hi, lo = hi == 0 and lo == 0 and 1 or lo }
end

-- Flags of the limits without room, by level; whether any of them denies; the need. The first and the last are nil when
-- all have room. call: what credits are needed for, where there is an account.
local function find_all_full(levels, requests, tokens, hi, lo, call)
  local full, denied, need = nil, false, nil
  for i = 1, #levels do
    local level = levels[i]
    local found = find_full(level, requests, tokens > 0 and tokens or 1, hi, hi == 0 and lo == 0 and 1 or lo)
    if found ~= 0 then
      full, need = full or { 0, 0, 0, 0 }, need or need_of(requests, tokens, hi, lo)
      full[i] = found
      denied = denied or denying(level, found) ~= 0
    end
  end
  if call then
    local is_short, denies = credits.is_short(levels[1].account, call)
    if is_short then
      full, need = full or { 0, 0, 0, 0 }, need or need_of(requests, tokens, hi, lo)
      full[1], need.call, denied = full[1] + HAS_CREDITS, call, denied or denies
    end
  end
  return full, denied, need
end

-- Second at which a denied call would pass if nothing else came, NEVER when it never would.
local function call_free_at(levels, full, need)
  local latest = 0
  for i, level in ipairs(levels) do
    local deny = denying(level, full[i])
    local frees = {
      has(deny, HAS_REQUESTS) and requests_free_at(level, need.requests) or 0,
      has(deny, HAS_TOKENS) and day_free_at(level, HAS_TOKENS, need.tokens, need.hi, need.lo) or 0,
      has(deny, HAS_COST) and day_free_at(level, HAS_COST, need.tokens, need.hi, need.lo) or 0,
      has(deny, HAS_CREDITS) and (credits.free_at(level.account, need.call) or NEVER) or 0,
    }
    for _, free in ipairs(frees) do
      if free == NEVER then
        return NEVER
      end
      latest = math.max(latest, free)
    end
  end
  local midnight = (levels[1].day + 1) * DAY_SECONDS
  if latest < midnight or latest >= midnight + DAY_SECONDS then
    return latest
  end
  -- Tomorrow a limit that has room today may be the one that is full, by usage dated ahead.
  for _, level in ipairs(levels) do
    local tomorrow = { flags = level.flags - level.flags % 2, tokens = level.next_tokens, hi = level.next_hi,
      lo = level.next_lo, limit_tokens = level.limit_tokens, limit_hi = level.limit_hi, limit_lo = level.limit_lo }
    if denying(level, find_full(tomorrow, 0, need.tokens, need.hi, need.lo)) ~= 0 then
      return midnight + DAY_SECONDS
    end
  end
  return latest
end

-- Counts requests at all levels. Adds to the events what is to be told of it, nil for none, and returns them.
local function count_requests(levels, requests, events)
  for i = 1, #levels do
    local level = levels[i]
    local added = math.min(requests, SECOND_COUNT_MAX - level.count)
    local sum = level.sum + added
    level.count, level.sum, level.dirty = level.count + added, sum, true
    if sum + sum >= level.limit_requests and BITS[level.flags][HAS_REQUESTS] then
      events = tell_requests(events, level, added)
    end
  end
  return events
end

-- What an answer begins with: store seconds, microseconds.
local CLOCK = '<I8I8'
-- Decision: allowed, second at which a denied call would pass (NEVER: no wait helps).
local DECISION = '<BI8'
local DENIED, ALLOWED_NOW = 0, '\1\0\0\0\0\0\0\0\0'

-- `between`: what stands between the decision and the limits.
local function pack_answer(levels, denied, full, need, between)
  if denied then
    return struct.pack(DECISION, DENIED, call_free_at(levels, full, need)) .. between
      .. pack_statuses(levels, full, need)
  end
  return ALLOWED_NOW .. between .. pack_statuses(levels, full, need, ONE_MORE)
end

-- quota_status. KEYS: tenant levels, root first. ARGV: partition. Returns CLOCK, DECISION, which is always allowed, one
-- LevelStatus per level.
local function quota_status(keys, args)
  if not opened[args[1]] then
    return redis.error_reply('NOTOPEN')
  end
  local now, micros = store_seconds()
  local levels = path_of({}, keys, 1, #keys, args[1], now)
  return struct.pack(CLOCK, now, micros) .. ALLOWED_NOW .. pack_statuses(levels, nil, ONE_MORE)
end

-- count. KEYS: tenant levels, root first. ARGV: partition; requests that were let pass while nobody could be asked.
local function count(keys, args)
  if not opened[args[1]] then
    return redis.error_reply('NOTOPEN')
  end
  local book = {}
  local levels = path_of(book, keys, 1, #keys, args[1], (store_seconds()))
  append_events(count_requests(levels, tonumber(args[2])))
  save_levels(book)
  return redis.status_reply('OK')
end

-- put_limits. KEYS: one tenant level. ARGV: partition; its LIMITS; the key of its plan, empty for none; second until
-- which others stand in for them, 0 for none; those LIMITS.
local function put_limits(keys, args)
  if not opened[args[1]] then
    return redis.error_reply('NOTOPEN')
  end
  local own, plan_key, until_second = args[2], args[3], tonumber(args[4])
  local level = load_level(1, keys[1], args[1], 1, (store_seconds()))
  if plan_key ~= '' or until_second > 0 or string.byte(own) == 0 then
    level.settings = new_settings(own, plan_key ~= '' and plan_key or nil,
      unpack(until_second > 0 and { until_second, args[5] } or {}))
  else
    -- Nothing but limits of its own: they say so themselves.
    level.settings = nil
    set_limits(level, own)
  end
  level.resized, level.dirty = true, true
  save_levels({ level })
  return redis.status_reply('OK')
end

-- remove_limits. KEYS: one tenant level. ARGV: partition. What it used and holds stays.
local function remove_limits(keys, args)
  if not opened[args[1]] then
    return redis.error_reply('NOTOPEN')
  end
  local level = load_level(1, keys[1], args[1], 1, (store_seconds()))
  level.settings, level.resized = nil, true
  set_limits(level, NO_LIMITS)
  level.dirty = true
  save_levels({ level })
  return redis.status_reply('OK')
end
