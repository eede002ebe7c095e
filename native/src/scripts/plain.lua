-- SPDX-License-Identifier: Apache-2.0
-- The ledger stream; and records that are only counted and kept: no hold, no credits, no correction. Loaded behind
-- holds.lua.

-- First dedup mark found for an identity in the store. The last dedup key is the one to write.
local function find_mark(keys, first, last, identity)
  for i = first, last do
    local mark = redis.call('HGET', keys[i], identity)
    if mark then
      return mark
    end
  end
  return nil
end

-- What a record is answered, whose levels are loaded: see record and record_plain.
local last_ledger_id, stream_of, check_streams, append_entries, record_plain

do
  -- Names of the one field of the stream's entries: a LedgerEntry, or LedgerEntries.
  local ONE, MANY = 'e', 'b'
  -- Of each partition's stream the last id, milliseconds and number, as far as it is known here.
  local last_ids = {}
  local LEDGERS = {}
  for number = 0, 63 do
    LEDGERS[PARTITIONS[number]] = '{tx:' .. PARTITIONS[number] .. '}:ledger'
  end

  -- Last id that a stream gave out, milliseconds and number.
  function last_ledger_id(key)
    if redis.call('EXISTS', key) == 0 then
      return 0, 0
    end
    local info = redis.call('XINFO', 'STREAM', key)
    for i = 1, #info, 2 do
      if info[i] == 'last-generated-id' then
        local ms, seq = string.match(info[i + 1], '^(%d+)-(%d+)$')
        return tonumber(ms), tonumber(seq)
      end
    end
  end

  -- What a call has for the ledger of a partition; nil when that is not open. `streams`: those of the call, as a list
  -- and by their partitions.
  function stream_of(streams, number)
    local partition = PARTITIONS[number]
    local stream = streams[partition]
    if not stream and opened[partition] then
      stream = { partition = partition, packed = {}, count = 0, front_size = 0, ms = 0, first = 0 }
      streams[partition], streams[#streams + 1] = stream, stream
    end
    return stream
  end

  -- A call writes to the stream first: it is the only key that was not read before, so the only one that can still
  -- refuse. Of several streams a later one must not refuse what an earlier one has taken.
  function check_streams(streams)
    for i = 1, #streams > 1 and #streams or 0 do
      redis.call('XLEN', LEDGERS[streams[i].partition])
    end
  end

  -- Appends ledger entries of one millisecond as one entry of the stream. Each has an id of its own, and that of the
  -- stream's is the last one's: who reads behind an id in the middle of them finds it. Returns milliseconds and the
  -- first one's number.
  function append_entries(partition, count, packed, now_ms)
    local ledger, last = LEDGERS[partition], last_ids[partition]
    local field, is_sure = count > 1 and MANY or ONE, not last
    while true do
      if not last then
        last = { last_ledger_id(ledger) }
        last_ids[partition] = last
      end
      local ms, first = now_ms, 0
      if last[1] >= now_ms then
        ms, first = last[1], last[2] + 1
      end
      local id = string.format('%d-%d', ms, first + count - 1)
      -- Another version's library may have appended meanwhile; then this id is refused, and the stream asked.
      local added = is_sure and redis.call('XADD', ledger, id, field, packed)
        or redis.pcall('XADD', ledger, id, field, packed)
      if type(added) == 'string' then
        last[1], last[2] = ms, first + count - 1
        return ms, first
      end
      last, is_sure = nil, true
    end
  end

  -- Of a group: partition; number of levels, of dedup keys per bucket, and of bytes in front of the first entry; number
  -- of records, and of buckets; their day; tokens and cost pair of all.
  local GROUP = '<BBBBI2I2I8I8I8I8'
  -- Bytes of an identity, and of it and its mark.
  local IDENTITY_SIZE, MARKED_SIZE = 16, 56

  -- Whether no record of a bucket has a mark, nor came before in the call.
  local function are_new(keys, first, last, packed, seen)
    if #packed == MARKED_SIZE then
      local identity = string.sub(packed, 1, IDENTITY_SIZE)
      if seen[identity] or find_mark(keys, first, last, identity) then
        return false
      end
      seen[identity] = true
      return true
    end
    local identities, count = {}, 0
    for at = 1, #packed, MARKED_SIZE do
      local identity = string.sub(packed, at, at + IDENTITY_SIZE - 1)
      if seen[identity] then
        return false
      end
      count, seen[identity] = count + 1, true
      identities[count] = identity
    end
    for i = first, last do
      local marks = redis.call('HMGET', keys[i], unpack(identities))
      for number = 1, count do
        if marks[number] then
          return false
        end
      end
    end
    return true
  end

  local function is_new(group, keys, args, seen)
    local key = group.first_key
    for i = group.first, group.last do
      local behind = key + group.dedup_count
      if not are_new(keys, key, behind - 1, args[i], seen) then
        return false
      end
      key = behind
    end
    return true
  end

  -- Adds a group to its levels, unless it needs more than that.
  local function stage(group, keys, args, seen, day, tokens, hi, lo)
    local levels = group.levels
    if levels[1].account or not fits(levels, day, tokens, hi, lo) or not is_new(group, keys, args, seen) then
      return false
    end
    add_records(levels, day, tokens, hi, lo)
    return true
  end

  -- seq: number of its first record.
  local function mark(group, keys, args, seq)
    local dedup_count, packed_ms = group.dedup_count, struct.pack('<I8', group.stream.ms)
    local key = group.first_key + dedup_count - 1
    for i = group.first, group.last do
      local packed = args[i]
      if #packed == MARKED_SIZE then
        redis.call('HSET', keys[key], string.sub(packed, 1, IDENTITY_SIZE),
          string.sub(packed, IDENTITY_SIZE + 1) .. packed_ms .. struct.pack('<I8', seq))
        seq = seq + 1
      else
        local fields, size = {}, 0
        for at = 1, #packed, MARKED_SIZE do
          local behind = at + IDENTITY_SIZE
          fields[size + 1] = string.sub(packed, at, behind - 1)
          fields[size + 2] = string.sub(packed, behind, at + MARKED_SIZE - 1) .. packed_ms .. struct.pack('<I8', seq)
          size, seq = size + 2, seq + 1
        end
        redis.call('HSET', keys[key], unpack(fields))
      end
      key = key + dedup_count
    end
  end

  -- Appends what a call has for the streams, to each as one entry.
  local function append_all(streams, now_ms)
    for i = 1, #streams do
      local stream = streams[i]
      local packed, count = stream.packed, stream.count
      if count > 0 then
        local entries = count == 1 and string.sub(packed[1], stream.front_size + 1) or table.concat(packed)
        stream.ms, stream.first = append_entries(stream.partition, count, entries, now_ms)
      end
    end
  end

  -- record_plain. Records of any partitions. KEYS: per group of records of one tenant and day its levels, root first,
  -- and per bucket, which are those of its records whose marks lie together, its dedup keys.
  -- ARGV: per group: GROUP; its entries, each as in LedgerEntries, in the order of its buckets; then per bucket of each
  -- record its identity and its mark, as in record.
  -- Returns CLOCK and the epoch, then per group 'A' '<I8I8' stream id of its first record, whose number grows by one
  -- with each, LevelStatus...; or 'S': nothing was done, it needs record.
  function record_plain(keys, args)
    local now, micros = store_seconds()
    local groups, seen, book, streams, key, at = {}, {}, {}, {}, 1, 1
    while at <= #args do
      local number, level_count, dedup_count, front, record_count, bucket_count, day, tokens, hi, lo =
        struct.unpack(GROUP, args[at])
      local stream, first_key = stream_of(streams, number), key + level_count
      if not stream then
        return redis.error_reply('NOTOPEN')
      end
      local group = { levels = path_of(book, keys, key, first_key - 1, stream.partition, now), first_key = first_key,
        dedup_count = dedup_count, first = at + 2, last = at + 1 + bucket_count, stream = stream,
        place = stream.count, is_added = false }
      if stage(group, keys, args, seen, day, tokens, hi, lo) then
        local packed = stream.packed
        group.is_added, stream.front_size = true, front
        packed[#packed + 1], stream.count = args[at + 1], stream.count + record_count
      end
      groups[#groups + 1] = group
      key, at = first_key + dedup_count * bucket_count, group.last + 1
    end
    check_streams(streams)
    local events
    for i = 1, #book do
      if book[i].before then
        events = tell_usage(events, book[i])
      end
    end
    append_events(events)
    append_all(streams, now * 1000 + math.floor(micros / 1000))
    local replies = { struct.pack(CLOCK, now, micros) .. epoch }
    for i = 1, #groups do
      local group, levels = groups[i], groups[i].levels
      if group.is_added then
        local seq = group.stream.first + group.place
        mark(group, keys, args, seq)
        levels.statuses = levels.statuses or pack_statuses(levels, nil, ONE_MORE)
        replies[i + 1] = 'A' .. struct.pack('<I8I8', group.stream.ms, seq) .. levels.statuses
      else
        replies[i + 1] = 'S'
      end
    end
    save_levels(book)
    return replies
  end
end
