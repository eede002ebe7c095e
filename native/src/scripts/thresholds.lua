-- SPDX-License-Identifier: Apache-2.0
-- Thresholds: what is told when the use of a limit comes to 50, 80, 95 and 100 percent of it. Loaded behind levels.lua.
--
-- An event is appended to the partition's stream by the script that counts: so it is there once, whoever counts.
-- A level notes what was told: of requests, tokens and cost the highest threshold in the present window. The window of
-- a limit per day is the day. That of requests, which slide, begins with an event and lasts a minute; in each
-- a threshold is told at most once, and only when use comes to it from below. A limit that is raised begins anew.
-- Credits have no window: what is told of them is how much is gone of the balance that there was when credits came in
-- last; the account notes it.
--
-- Whoever counts compares first, roughly and without a call of its own, and comes here only when something may be told.

local tell_requests, tell_usage, append_events

-- A block of its own: a library may have 200 local names at a time.
do
  local THRESHOLDS = { 100, 95, 80, 50 }
  local NEXT_THRESHOLD = { [0] = 50, [50] = 80, [80] = 95, [95] = 100, [100] = 1e300 }
  -- For sums as large as tokens and cost may be, a Lua number is too coarse by less than this.
  local SLACK = 1e-6
  local REPORT_SECONDS = 60
  local TOLD = { [HAS_REQUESTS] = 'told_requests', [HAS_TOKENS] = 'told_tokens', [HAS_COST] = 'told_cost' }
  -- Older events are dropped when a partition has more, give or take a hundred.
  local EVENT_COUNT_MAX = 10000

  -- Smallest amount that is so many percent of a limit, and at least one.
  local function share(hi, lo, percent)
    local rest = hi % 100
    local part = math.ceil((rest * MONEY_BASE + lo) * percent / 100)
    local share_hi, share_lo = (hi - rest) / 100 * percent + math.floor(part / MONEY_BASE), part % MONEY_BASE
    if share_hi == 0 and share_lo == 0 then
      return 0, 1
    end
    return share_hi, share_lo
  end

  -- Highest threshold that an amount has come to, 0 for none.
  local function reached(limit_hi, limit_lo, hi, lo)
    for _, percent in ipairs(THRESHOLDS) do
      if not less(hi, lo, share(limit_hi, limit_lo, percent)) then
        return percent
      end
    end
    return 0
  end

  -- Thresholds above another that an amount has come to, the lowest first.
  local function passed(limit_hi, limit_lo, hi, lo, above)
    local found = {}
    for _, percent in ipairs(THRESHOLDS) do
      if percent > above and not less(hi, lo, share(limit_hi, limit_lo, percent)) then
        table.insert(found, 1, percent)
      end
    end
    return found
  end

  local function as_pair(count)
    return math.floor(count / MONEY_BASE), count % MONEY_BASE
  end

  -- Notes that something is told of a limit of a level. Returns the events so far; nil stands for none. `window`: its
  -- first second.
  local function tell(events, level, flag, percents, maximum, used, window)
    if not level.is_told then
      level.is_told, level.resized = true, true
    end
    level[TOLD[flag]] = percents[#percents]
    events = events or {}
    for _, percent in ipairs(percents) do
      events[#events + 1] = { level.key, flag, percent, maximum, used, window }
    end
    return events
  end

  -- The threshold that a number of requests has come to, the quick way: these numbers are small enough to be exact.
  local function requests_reached(used, maximum)
    used = used * 100
    if used >= maximum * 80 then
      return used >= maximum * 100 and 100 or used >= maximum * 95 and 95 or 80
    end
    return used >= maximum * 50 and 50 or 0
  end

  -- To be called when a level that limits requests has counted `added` of them and is half full or more.
  function tell_requests(events, level, added)
    local maximum, above = level.limit_requests, requests_reached(level.sum - added, level.limit_requests)
    if requests_reached(level.sum, maximum) == above then
      return events
    end
    local now, window, told_second = level.second, level.second, level.told_second
    if now >= told_second and now < told_second + REPORT_SECONDS then
      above, window = math.max(above, level.told_requests), told_second
    end
    local limit_hi, limit_lo = as_pair(maximum)
    local used_hi, used_lo = as_pair(level.sum)
    local percents = passed(limit_hi, limit_lo, used_hi, used_lo, above)
    if #percents > 0 then
      events = tell(events, level, HAS_REQUESTS, percents, string.format('%d', maximum),
        string.format('%d', level.sum), window)
      level.told_second = window
    end
    return events
  end

  -- Whether it is worth to look exactly: something has come to the next threshold, or, as when a limit is raised, was
  -- below the last one told.
  local function may_tell(before, after, maximum, above)
    return after * 100 >= maximum * (NEXT_THRESHOLD[above] - SLACK)
      or above > 0 and before * 100 < maximum * (above + SLACK)
  end

  -- Of a limit per day, all amounts as pairs.
  local function tell_day(events, level, flag, limit_hi, limit_lo, before_hi, before_lo, hi, lo)
    local above = level[TOLD[flag]]
    if above > 0 and less(before_hi, before_lo, share(limit_hi, limit_lo, above)) then
      above = reached(limit_hi, limit_lo, before_hi, before_lo)
    end
    local percents = passed(limit_hi, limit_lo, hi, lo, above)
    if #percents == 0 then
      return events
    end
    return tell(events, level, flag, percents, string.format('%d%09d', limit_hi, limit_lo),
      string.format('%d%09d', hi, lo), level.day * DAY_SECONDS)
  end

  -- To be called when records have been added to a level; level.before: its tokens and cost pair before that. Below the
  -- half nothing is told, and what was told once is looked at again when use comes back to it.
  function tell_usage(events, level)
    local set, before = BITS[level.flags], level.before
    if set[HAS_TOKENS] and level.tokens * 2 >= level.limit_tokens
      and may_tell(before[1], level.tokens, level.limit_tokens, level.told_tokens) then
      local limit_hi, limit_lo = as_pair(level.limit_tokens)
      local before_hi, before_lo = as_pair(before[1])
      local hi, lo = as_pair(level.tokens)
      events = tell_day(events, level, HAS_TOKENS, limit_hi, limit_lo, before_hi, before_lo, hi, lo)
    end
    if set[HAS_COST] and level.hi * 2 + 1 >= level.limit_hi
      and may_tell(before[2] * MONEY_BASE + before[3], level.hi * MONEY_BASE + level.lo,
        level.limit_hi * MONEY_BASE + level.limit_lo, level.told_cost) then
      events = tell_day(events, level, HAS_COST, level.limit_hi, level.limit_lo, before[2], before[3], level.hi,
        level.lo)
    end
    return events
  end

  -- To be called when the credit account of a level has changed, and was watched before.
  function credits.tell(events, level)
    local told, balance = level.account.told, credits.watch(level.account)
    if told ~= level.account.told or told[1] <= 0 then
      -- Credits have come in, or there never were any.
      return events
    end
    local mark_hi, mark_lo = as_pair(told[1])
    local used = told[1] - balance
    local hi, lo = as_pair(math.max(used, 0))
    local percents = passed(mark_hi, mark_lo, hi, lo, told[3])
    for _, percent in ipairs(percents) do
      events = events or {}
      events[#events + 1] = { level.key, HAS_CREDITS, percent, string.format('%d', told[1]),
        string.format('%d', used), math.floor(told[2] / 1000) }
      told[3] = percent
    end
    return events
  end

  -- Appends events: level, flag of the limit, percent, maximum and used in the limit's own unit, first second of the
  -- window. nil for none. To be called before anything else is written: a stream of another type stops the script
  -- before the first entry.
  function append_events(events)
    if not events then
      return
    end
    local streams = {}
    for i = 1, #events do
      streams[i] = string.match(events[i][1], '^{tx:%d+}') .. ':events'
      redis.call('XLEN', streams[i])
    end
    for i = 1, #streams do
      local event = events[i]
      redis.call('XADD', streams[i], 'MAXLEN', '~', EVENT_COUNT_MAX, '*', 'level', string.match(event[1], ':t:(.*)$'),
        'limit', event[2], 'percent', event[3], 'maximum', event[4], 'used', event[5], 'window', event[6])
    end
  end
end
