-- SPDX-License-Identifier: Apache-2.0
-- Counts, money and time, as all scripts use them.
--
-- The files here are one library: amounts, attributes, held, limits, credits, credit_changes, credit_limit, levels,
-- thresholds, decide, marks, holds, plain, meter, in this order. Its first line ("#!lua name=...") is put in front when
-- it is loaded: name and function prefix carry the hash of this text, so that two server versions on one store never
-- call each other's functions.
--
-- Scripts do not roll back. Each function therefore reads and decides first and only then writes.
--
-- Money is a pair (hi, lo): picos = hi * 10^9 + lo with 0 <= lo < 10^9, because a Lua number is exact only to 2^53.
-- Times come from the store's own clock, one clock for all instances.

local MONEY_BASE = 1e9
local COUNT_MAX = 9007199254740991
-- 2^63 - 1 picos as a pair.
local COST_HI_MAX, COST_LO_MAX = 9223372036, 854775807
local DAY_SECONDS = 86400

-- Partitions opened since this process of the store started. Not persisted on purpose: a restarted or promoted
-- store has none, so that nothing is applied before the journal has been compared with it.
local opened = {}
local epoch = nil

-- Their names, as they are in keys and in `opened`, by number.
local PARTITIONS = {}
for number = 0, 63 do
  PARTITIONS[number] = number .. ''
end

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

local function subtract(hi_a, lo_a, hi_b, lo_b)
  local hi, lo = hi_a - hi_b, lo_a - lo_b
  if lo < 0 then
    return hi - 1, lo + MONEY_BASE
  end
  return hi, lo
end

-- What a count, or a pair, is larger than another by; 0 when it is not.
local function beyond(a, b)
  return math.max(a - b, 0)
end

local function cost_beyond(hi_a, lo_a, hi_b, lo_b)
  if less(hi_a, lo_a, hi_b, lo_b) then
    return 0, 0
  end
  return subtract(hi_a, lo_a, hi_b, lo_b)
end

local function too_much(tokens, hi, lo)
  return tokens > COUNT_MAX or less(COST_HI_MAX, COST_LO_MAX, hi, lo)
end

-- Which values of single bits are in each byte: cheaper to look up than to work out. While the library is loaded
-- there is no `math`, nor any other module.
local BITS = {}
for flags = 0, 255 do
  BITS[flags] = {}
  for power = 0, 7 do
    BITS[flags][2 ^ power] = flags % 2 ^ (power + 1) >= 2 ^ power
  end
end

local function has(flags, bit_value)
  return BITS[flags][bit_value]
end

local function common_flags(a, b)
  local sum = 0
  for power = 0, 7 do
    if has(a, 2 ^ power) and has(b, 2 ^ power) then
      sum = sum + 2 ^ power
    end
  end
  return sum
end
