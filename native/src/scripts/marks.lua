-- SPDX-License-Identifier: Apache-2.0
-- Marks of holds: what became of each. Loaded behind decide.lua.
--
-- A mark outlives its hold for a while, so that a repeated call finds its answer, and vanishes by the store's own
-- means. That of a check without a name lies in a place: a hash for all holds of a few milliseconds that live about as
-- long, which expires as a whole. So calls that come together write their marks with one command. The id of a hold says
-- its place, see hold_id.rs; its field is the hold's name.
-- A named check has to be found by its name alone, an extended hold has to outlive its place, and claims on credits are
-- long, while hashes are compact only as long as no field is: these marks lie under keys of their own.

local HELD_STATE, SETTLED, RELEASED, EXPIRED, SETTLED_BEFORE, UNKNOWN, NO_HOLD, REFUSED = 1, 2, 3, 4, 5, 6, 7, 8

local NO_FINGERPRINT = '\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0'

local decode_mark, pack_mark, own_key, keep_mark, find_hold, end_hold, add_mark, put_in_place, save_marks, save_places

do
  -- Under a key of its own, by number of levels. State, fingerprint of the check, time of its card, day, tokens, cost
  -- pair. Then a number per level: the expiry second of a hold; of a denial the flags that failed; of a check without a
  -- hold nothing that counts. Behind it stands what the hold claims of credits, see credit_limit.lua.
  local MARK = { '<Bc16I8I4I8I8I4I4' }
  -- In a place: state, day, tokens, cost pair, and the expiry second at each level. Of an ended hold the state alone.
  local PLACED = { '<BI4I8I8I4I4' }
  for level_count = 2, 4 do
    MARK[level_count] = MARK[level_count - 1] .. 'I4'
    PLACED[level_count] = PLACED[level_count - 1] .. 'I4'
  end

  -- key and name: where it lies; no name when that is a key of its own.
  function decode_mark(key, packed, level_count)
    local state, fingerprint, card_time, day, tokens, hi, lo, a, b, c, d, e = struct.unpack(MARK[level_count], packed)
    -- Behind the last number stands the position behind the mark.
    local numbers = { a, b, c, d, e }
    return { key = key, name = '', state = state, fingerprint = fingerprint, card_time = card_time, day = day,
      tokens = tokens, hi = hi, lo = lo, numbers = numbers, claims = string.sub(packed, numbers[level_count + 1]) }
  end

  function pack_mark(mark, level_count)
    local numbers = mark.numbers
    return struct.pack(MARK[level_count], mark.state, mark.fingerprint, mark.card_time, mark.day, mark.tokens, mark.hi,
      mark.lo, numbers[1], numbers[2], numbers[3], numbers[4]) .. mark.claims
  end

  function own_key(partition, name)
    return '{tx:' .. partition .. '}:hold:' .. name
  end

  -- An absolute time goes into the append-only file as it is.
  function keep_mark(key, packed, until_second)
    redis.call('SET', key, packed, 'PXAT', until_second * 1000)
  end

  -- The mark that was found last in a place: nobody looks at two at a time.
  local placed = { key = '', name = '', state = 0, fingerprint = NO_FINGERPRINT, card_time = 0, day = 0, tokens = 0,
    hi = 0, lo = 0, numbers = { 0, 0, 0, 0 }, claims = '' }

  local function decode_placed(key, name, packed, level_count)
    local numbers = placed.numbers
    placed.key, placed.name, placed.claims = key, name, ''
    if #packed == 1 then
      placed.state = string.byte(packed)
    else
      placed.state, placed.day, placed.tokens, placed.hi, placed.lo, numbers[1], numbers[2], numbers[3], numbers[4] =
        struct.unpack(PLACED[level_count], packed)
    end
    return placed
  end

  -- The mark of a hold, nil when there is none. name: '' when key is its own, and else key is its place.
  function find_hold(key, name, partition, level_count)
    if name ~= '' then
      local packed = redis.call('HGET', key, name)
      if packed then
        return decode_placed(key, name, packed, level_count)
      end
      key = own_key(partition, name)
    end
    local packed = redis.call('GET', key)
    return packed and decode_mark(key, packed, level_count) or nil
  end

  -- The state is the first byte of a mark; the time it is kept for stays.
  function end_hold(key, name, state)
    if name == '' then
      redis.call('SETRANGE', key, 0, string.char(state))
    else
      redis.call('HSET', key, name, string.char(state))
    end
  end

  -- Notes a mark for its place. places: those of a call, as lists of key and then names and marks, and by their keys.
  function put_in_place(places, key, name, day, tokens, hi, lo, numbers, level_count, keep_seconds)
    local place = places[key]
    if not place then
      place = { key, keep_seconds = keep_seconds }
      places[key], places[#places + 1] = place, place
    end
    local size = #place
    place[size + 1] = name
    place[size + 2] = struct.pack(PLACED[level_count], HELD_STATE, day, tokens, hi, lo, numbers[1], numbers[2],
      numbers[3], numbers[4])
  end

  -- Notes a mark that gets a key of its own. marks: those of a call, by their keys, and as a list of key, mark, and
  -- until when it is kept.
  function add_mark(marks, key, packed, keep_until)
    local size = #marks
    marks[key], marks[size + 1], marks[size + 2], marks[size + 3] = packed, key, packed, keep_until
  end

  function save_marks(marks)
    for i = 1, #marks, 3 do
      keep_mark(marks[i], marks[i + 1], marks[i + 2])
    end
  end

  -- To be called before anything else is written: where a place is of another type this stops the script, and a mark
  -- without its amounts, whose name nobody was told, does nothing.
  function save_places(places)
    for i = 1, #places do
      local place = places[i]
      redis.call('HSET', unpack(place))
      -- Each time: places are named by the clocks of servers, and one that was set back comes to its places again.
      redis.call('EXPIRE', place[1], place.keep_seconds)
    end
  end
end
