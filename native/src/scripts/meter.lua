-- SPDX-License-Identifier: Apache-2.0
-- What the journal has its part in: open, record, sweep. Last of the library; it registers all functions.

local function same_payload(mark_a, mark_b)
  return string.sub(mark_a, 1, 16) == string.sub(mark_b, 1, 16)
end

-- Flags of a record: it goes to the ledger; it settles a hold; it was applied before, so that its moves of credits are
-- those of the first time; it changes a credit account; the mark of its hold has a place.
local TO_LEDGER, HAS_HOLD, HAS_MOVES, IS_CREDIT, HAS_PLACE = 1, 2, 4, 8, 16
local HOLD_NAME, HOLD_NAME_SIZE = 'c16', 16

-- Decides what an item does to the credits of its root level. settled: see settle. Returns false when it cannot be,
-- with its reply set.
local function stage_credits(item, levels, settled)
  local level, set, moves, refusal = levels[1], BITS[item.flags], nil, nil
  if set[HAS_MOVES] and not set[IS_CREDIT] and not level.account and credits.has_none(item.numbers, item.behind) then
    return true
  elseif set[IS_CREDIT] or set[HAS_MOVES] then
    local account = level.account or credits.load(level.key, level)
    credits.watch(account)
    if set[IS_CREDIT] then
      moves, refusal = credits.change(account, item.numbers, item.behind, set[HAS_MOVES])
    else
      moves = credits.repeat_moves(account, item.numbers, item.behind, true)
    end
    if not moves then
      item.reply = 'R' .. refusal
      return false
    end
    level.resized, level.account = level.resized or not level.account, account
  elseif level.account then
    local claims = item.hold and not settled[item.hold_name ~= '' and item.hold_name or item.hold]
      and claims_of_hold(item.hold, item.hold_name, item.partition, levels)
    credits.watch(level.account)
    moves = credits.charge(level.account, item.numbers, item.behind, claims or {})
    if not moves then
      item.reply = 'O'
      return false
    end
  end
  item.moves = moves and credits.encode(moves) or ''
  return true
end

-- Decides one record without writing anything. Sets its reply, or the earlier record of this call that it repeats, or,
-- where it is to be written, its levels, to which it is added.
local function stage(item, keys, first_dedup, first_level, last_level, staged, settled, book, now)
  local identity, mark = item.identity, item.mark
  local earlier = staged[identity]
  if earlier then
    if same_payload(earlier.mark, mark) then
      item.repeats = earlier
    else
      item.reply = 'C' .. earlier.mark
    end
    return
  end
  local found = find_mark(keys, first_dedup, first_level - 1, identity)
  if found then
    item.reply = (same_payload(found, mark) and 'D' or 'C') .. found
    return
  end
  local levels = path_of(book, keys, first_level, last_level, item.partition, now)
  local day, tokens, hi, lo = item.day, item.tokens, item.hi, item.lo
  if not fits(levels, day, tokens, hi, lo) then
    item.reply = 'O'
    return
  end
  if not stage_credits(item, levels, settled) then
    return
  end
  add_records(levels, day, tokens, hi, lo)
  if item.hold then
    item.settlement = settle(item, settled, levels)
  end
  item.levels = levels
  staged[identity] = item
end

-- The stream first: see check_streams.
local function apply(item, now_ms)
  local packed_id, settlement, moves = item.entry, item.settlement, item.moves
  if has(item.flags, TO_LEDGER) then
    -- An entry that has its moves already is written as it is.
    local more = has(item.flags, HAS_MOVES) and '' or moves
    packed_id = struct.pack('<I8I8', append_entries(item.partition, 1, item.entry .. more, now_ms))
  end
  item.mark = item.mark .. settlement .. moves .. packed_id
  redis.call('HSET', item.dedup_key, item.identity, item.mark)
  if string.byte(settlement) == SETTLED then
    end_hold(item.hold, item.hold_name, SETTLED)
  end
  local levels = item.levels
  -- All that share them are answered after all of them were added.
  levels.statuses = levels.statuses or pack_statuses(levels, nil, ONE_MORE)
  return 'A' .. packed_id .. settlement .. levels.statuses .. moves
end

-- record. Records of any partitions. KEYS: per record its dedup keys, its tenant levels, root first, and where flagged
-- the mark of its hold.
-- ARGV: per record: identity (16 bytes); dedup mark, beginning with the fingerprint (16 bytes); '<BBBBI8I8I8I8'
-- partition, number of dedup keys, number of levels, flags, day, tokens, cost pair, then what credits.change,
-- credits.repeat_moves or credits.charge takes, as the flags say; the ledger entry, or, when it is not to be written
-- because the ledger files have it, '<I8I8' its stream id.
-- A stored mark is the mark, SETTLEMENT where there was a hold, moves of credits as in a LedgerEntry, and '<I8I8' the
-- stream id.
-- Returns CLOCK and the epoch, then per record one of: 'A' '<I8I8' stream id, SETTLEMENT where there was a hold,
-- LevelStatus..., moves of credits; 'D' stored mark (same payload before); 'C' mark (other payload before); 'O' (a
-- counter would overflow); 'R' why a credit account was not changed.
local function record(keys, args)
  local now, micros = store_seconds()
  local items, staged, settled, book, streams, key = {}, {}, {}, {}, {}, 1
  for i = 1, #args, 4 do
    local number, dedup_count, level_count, flags, day, tokens, hi, lo, behind_numbers =
      struct.unpack('<BBBBI8I8I8I8', args[i + 2])
    local stream = stream_of(streams, number)
    if not stream then
      return redis.error_reply('NOTOPEN')
    end
    local first_level = key + dedup_count
    local behind = first_level + level_count
    -- One constructor with all fields, as for levels.
    local item = {
      partition = stream.partition, identity = args[i], mark = args[i + 1], entry = args[i + 3],
      dedup_key = keys[first_level - 1], flags = flags, day = day, tokens = tokens, hi = hi, lo = lo,
      numbers = args[i + 2], behind = behind_numbers, hold = nil, hold_name = '', settlement = '', moves = '',
      levels = nil, repeats = nil, reply = nil,
    }
    local last_level = behind - 1
    if has(flags, HAS_HOLD) then
      item.hold = keys[behind]
      behind = behind + 1
    end
    if has(flags, HAS_PLACE) then
      item.hold_name, item.behind = struct.unpack(HOLD_NAME, item.numbers, behind_numbers)
    end
    stage(item, keys, key, first_level, last_level, staged, settled, book, now)
    items[#items + 1] = item
    key = behind
  end
  check_streams(streams)
  local events
  for i = 1, #book do
    if book[i].before then
      events = tell_usage(events, book[i])
    end
    if book[i].account and book[i].account.changed then
      events = credits.tell(events, book[i])
    end
  end
  append_events(events)
  local replies, now_ms = { struct.pack(CLOCK, now, micros) .. epoch }, now * 1000 + math.floor(micros / 1000)
  for i = 1, #items do
    local item = items[i]
    if item.levels then
      item.reply = apply(item, now_ms)
    end
    -- What a record repeats stands before it.
    replies[i + 1] = item.reply or 'D' .. item.repeats.mark
  end
  save_levels(book)
  return replies
end

-- credit_account. KEYS: a root level. ARGV: partition. Returns its credit account as JSON, nil when it has none.
local function credit_account(keys, args)
  if not opened[args[1]] then
    return redis.error_reply('NOTOPEN')
  end
  local account = load_level(1, keys[1], args[1], 1, (store_seconds())).account
  return account and credits.json(account)
end

-- open. KEYS: epoch list, ledger stream. ARGV: partition; last archived stream id.
-- Once per process of the store and partition: notes the epoch and the last stream id that the store still has, and
-- moves the stream's clock past what the ledger files hold already. Returns epoch, then the list of 'epoch last_id',
-- oldest first.
local function open(keys, args)
  if not opened[args[1]] then
    local now, micros = store_seconds()
    epoch = epoch or string.format('%d%06d', now, micros)
    local last_ms, last_seq = last_ledger_id(keys[2])
    local archived_ms, archived_seq = string.match(args[2], '^(%d+)-(%d+)$')
    archived_ms, archived_seq = tonumber(archived_ms), tonumber(archived_seq)
    if last_ms < archived_ms or (last_ms == archived_ms and last_seq < archived_seq) then
      if redis.call('EXISTS', keys[2]) == 0 then
        redis.call('XGROUP', 'CREATE', keys[2], 'setup', '$', 'MKSTREAM')
        redis.call('XGROUP', 'DESTROY', keys[2], 'setup')
      end
      redis.call('XSETID', keys[2], args[2])
    end
    redis.call('RPUSH', keys[1], string.format('%s %d-%d', epoch, last_ms, last_seq))
    redis.call('LTRIM', keys[1], -64, -1)
    opened[args[1]] = true
  end
  return { epoch, unpack(redis.call('LRANGE', keys[1], 0, -1)) }
end

-- sweep. KEYS: dedup watermark. ARGV: days to keep; day whose marks the caller has dropped, or -1.
-- The watermark 'day moved_seconds' moves at most one day per day of the store's clock and never back, so that no
-- step of a clock can drop marks that a retry still needs. Returns the day whose marks may be dropped now, or -1.
local function sweep(keys, args)
  local now = store_seconds()
  local today = math.floor(now / DAY_SECONDS)
  local stored = redis.call('GET', keys[1])
  if not stored then
    redis.call('SET', keys[1], string.format('%d %d', today - tonumber(args[1]), now))
    return -1
  end
  local day, moved = string.match(stored, '^(-?%d+) (%d+)$')
  day, moved = tonumber(day), tonumber(moved)
  if day >= today - tonumber(args[1]) or now - moved < DAY_SECONDS then
    return -1
  end
  if tonumber(args[2]) ~= day then
    return day
  end
  redis.call('SET', keys[1], string.format('%d %d', day + 1, now))
  return -1
end

redis.register_function('@prefix@_open', open)
redis.register_function('@prefix@_sweep', sweep)
redis.register_function('@prefix@_admit_attributes', admit_attributes)
redis.register_function('@prefix@_record', record)
redis.register_function('@prefix@_record_plain', record_plain)
redis.register_function('@prefix@_decide', decide)
redis.register_function('@prefix@_extend', extend)
redis.register_function('@prefix@_release', release)
redis.register_function('@prefix@_put_limits', put_limits)
redis.register_function('@prefix@_remove_limits', remove_limits)
redis.register_function('@prefix@_count', count)
redis.register_function{function_name = '@prefix@_credit_account', callback = credit_account, flags = {'no-writes'}}
redis.register_function{function_name = '@prefix@_quota_status', callback = quota_status, flags = {'no-writes'}}
