-- SPDX-License-Identifier: Apache-2.0
-- Credit accounts: grants, what usage takes of them, and the limit that they are. Loaded behind limits.lua.
--
-- The account of a tenant belongs to its root level and lies under a key of its own, which is read only where the level
-- says that there is one. Beside it lie what was said of each grant, and the grants that have ended.
--
-- A credit has a million microcredits. All amounts are whole microcredits and at most 2^53 - 1, sums too, so plain
-- numbers are exact. Money becomes credits here and not where it is priced, because only the store knows the rate
-- at the instant of the debit: per line, by a long division, rounded half to even once.
--
-- What an entry does to an account is a list of moves: line (from 1; 0 for none), grant ('' for what no grant covers),
-- microcredits given and taken. The sum of all moves is the balance. The ledger entry carries them, so that an entry
-- that is given back to a store that lost it does the same once more, whatever time it is by then.

local HAS_CREDITS = 8
-- Policies of an account, and places in a grant. MODELS and CLASSES are lists, or false for all.
local CREDIT = { BLOCK = 1, OVERDRAFT = 2, ALLOW = 3, ID = 1, REMAINING = 2, PRIORITY = 3, EFFECTIVE = 4, EXPIRE = 5,
  IS_PAID = 6, NARROWNESS = 7, CREATED = 8, MODELS = 9, CLASSES = 10 }
-- What a hold claims of a grant: second until which, in the level's own seconds; grant; microcredits.
local CLAIM = { UNTIL = 1, ID = 2, AMOUNT = 3 }
local credits = {}

do
  local ID, REMAINING, EFFECTIVE, EXPIRE = CREDIT.ID, CREDIT.REMAINING, CREDIT.EFFECTIVE, CREDIT.EXPIRE
  local RANK = { CREDIT.PRIORITY, EXPIRE, CREDIT.IS_PAID, CREDIT.NARROWNESS, CREDIT.CREATED }
  local NEVER_SECOND = 1e300

  local function unpacked(packed)
    local is_whole, value = pcall(cmsgpack.unpack, packed)
    if not is_whole or type(value) ~= 'table' then
      error('CORRUPT credit account')
    end
    return value
  end

  -- The order in which grants are used, without ties: priority, soonest expiry, promo before paid, narrower scope,
  -- earlier creation, id.
  local function comes_before(a, b)
    for _, field in ipairs(RANK) do
      local of_a, of_b = a[field], b[field]
      if field == EXPIRE then
        of_a, of_b = of_a == 0 and NEVER_SECOND or of_a, of_b == 0 and NEVER_SECOND or of_b
      end
      if of_a ~= of_b then
        return of_a < of_b
      end
    end
    return a[ID] < b[ID]
  end

  function credits.insert(account, grant)
    local at = 1
    while account.grants[at] and comes_before(account.grants[at], grant) do
      at = at + 1
    end
    table.insert(account.grants, at, grant)
    return grant
  end

  -- What live holds claim at an instant: by grant, and in all.
  function credits.held_at(account, clock)
    local held, sum = {}, 0
    for _, claim in ipairs(account.claims) do
      if claim[CLAIM.UNTIL] > clock then
        held[claim[CLAIM.ID]] = (held[claim[CLAIM.ID]] or 0) + claim[CLAIM.AMOUNT]
        sum = sum + claim[CLAIM.AMOUNT]
      end
    end
    return held, sum
  end

  local function new_account(key)
    -- A rate of 0: nobody has said yet what credits are worth. Only where entries are given back out of order.
    return { key = key, rate = 0, policy = CREDIT.ALLOW, overdraft_max = 0, overdrawn = 0, granted = 0, used = 0,
      grants = {}, claims = {}, told = false, held = {}, held_sum = 0, writes = {}, changed = false }
  end

  function credits.hash_key(account, name)
    return (string.gsub(account.key, ':credits:', ':credit_' .. name .. ':', 1))
  end

  -- The account of a root level that was loaded; key: that of the level.
  function credits.load(level_key, level)
    local account = new_account((string.gsub(level_key, ':t:', ':credits:', 1)))
    local packed = redis.call('GET', account.key)
    if packed then
      account.rate, account.policy, account.overdraft_max, account.overdrawn, account.granted, account.used,
        account.grants, account.claims, account.told = unpack(unpacked(packed))
    end
    account.now, account.shift = level.second, level.held and level.held.shift or 0
    if #account.claims > 0 then
      account.held, account.held_sum = credits.held_at(account, account.now + account.shift)
    end
    return account
  end

  -- Writes an account that has changed. What is used up, and claimed by nobody, makes room.
  function credits.save(account)
    if not account.changed then
      return
    end
    local grants, claims = {}, {}
    for _, grant in ipairs(account.grants) do
      if grant[REMAINING] ~= 0 or grant[EFFECTIVE] > account.now or account.held[grant[ID]] then
        grants[#grants + 1] = grant
      else
        redis.call('HSET', credits.hash_key(account, 'ended'), grant[ID], cmsgpack.pack(grant))
      end
    end
    for _, claim in ipairs(account.claims) do
      if claim[CLAIM.UNTIL] > account.now + account.shift then
        claims[#claims + 1] = claim
      end
    end
    redis.call('SET', account.key, cmsgpack.pack({ account.rate, account.policy, account.overdraft_max,
      account.overdrawn, account.granted, account.used, grants, claims, account.told or false }))
    for _, write in ipairs(account.writes) do
      redis.call('HSET', credits.hash_key(account, 'grants'), write[1], write[2])
    end
    account.grants, account.claims, account.writes, account.changed = grants, claims, {}, false
  end

  -- A grant by its id, one that has ended too; or nil.
  function credits.find(account, id)
    for _, grant in ipairs(account.grants) do
      if grant[ID] == id then
        return grant
      end
    end
    local packed = redis.call('HGET', credits.hash_key(account, 'ended'), id)
    return packed and credits.insert(account, unpacked(packed)) or nil
  end

  function credits.is_usable(grant, now)
    return grant[EFFECTIVE] <= now and (grant[EXPIRE] == 0 or now < grant[EXPIRE])
  end

  -- What was told of the balance: how high it was when credits came in last, when that was, and the highest threshold
  -- that was told since. To be called before anything is taken. Credits come in when a grant does, or begins; what is
  -- given back to a balance that was never so high counts as well.
  function credits.watch(account)
    local balance, newest = -account.overdrawn, 0
    for _, grant in ipairs(account.grants) do
      if credits.is_usable(grant, account.now) then
        balance = balance + grant[REMAINING]
        newest = math.max(newest, grant[EFFECTIVE] * 1000, grant[CREDIT.CREATED])
      end
    end
    local told = account.told
    if not told or newest > told[2] or balance > told[1] then
      account.told = { balance, math.max(newest, told and told[2] or 0), 0 }
    end
    return balance
  end

  local function is_among(names, name)
    for _, one in ipairs(names) do
      if one == name then
        return true
      end
    end
    return false
  end

  -- What a check does not name may be anything.
  local function is_in_scope(grant, call, class)
    local models, classes = grant[CREDIT.MODELS], grant[CREDIT.CLASSES]
    return (not models or call.model == '' or is_among(models, call.model) or is_among(models, call.row))
      and (not classes or class == '' or is_among(classes, class))
  end

  -- What picos come to at a rate of at most 10^12: whole microcredits, half to even.
  local function microcredits(hi, lo, rate)
    local rest = math.fmod(hi, rate)
    local quotient = (hi - rest) / rate
    for _, unit in ipairs({ 1e6, 1e3, 1 }) do
      local value = rest * 1000 + math.floor(lo / unit) % 1000
      rest = math.fmod(value, rate)
      quotient = quotient * 1000 + (value - rest) / rate
    end
    if rest * 2 > rate or (rest * 2 == rate and quotient % 2 == 1) then
      quotient = quotient + 1
    end
    return quotient
  end

  -- Reads what a call costs: '<Bc0Bc0I2' model, row of the card, number of lines; per line '<I2I8I8Bc0' its number,
  -- cost pair, class. Returns it with its lines in microcredits, their sum, and the position behind.
  function credits.read_call(account, packed, position)
    local call, sum, count = { lines = {} }, 0, 0
    call.model, call.row, count, position = struct.unpack('<Bc0Bc0I2', packed, position)
    for _ = 1, count do
      local number, hi, lo, class
      number, hi, lo, class, position = struct.unpack('<I2I8I8Bc0', packed, position)
      local amount = account.rate > 0 and microcredits(hi, lo, account.rate) or 0
      call.lines[#call.lines + 1] = { number, class, amount }
      sum = sum + amount
    end
    return call, sum, position
  end

  -- What grants give for a call, in their order, at an instant. kept: what must be left of each, by grant. claims: what
  -- the call may have of each although it has expired. Returns what no grant covers, and the moves.
  function credits.allot(account, call, now, kept, claims)
    local moves, taken, missing = {}, {}, 0
    -- What was given back where a grant had paid what was overdrawn.
    local surplus = math.max(-account.overdrawn, 0)
    for _, line in ipairs(call.lines) do
      local left = line[3]
      if surplus > 0 and left > 0 then
        local part = math.min(left, surplus)
        surplus, left = surplus - part, left - part
        moves[#moves + 1] = { line[1], '', 0, part }
      end
      for _, grant in ipairs(account.grants) do
        if left == 0 then
          break
        end
        local id = grant[ID]
        local room = grant[REMAINING] - (kept[id] or 0)
        if not credits.is_usable(grant, now) then
          room = math.min(grant[REMAINING], claims[id] or 0)
        end
        local part = math.min(left, room - (taken[id] or 0))
        if part > 0 and is_in_scope(grant, call, line[2]) then
          taken[id], left = (taken[id] or 0) + part, left - part
          moves[#moves + 1] = { line[1], id, 0, part }
        end
      end
      if left > 0 then
        missing = missing + left
        moves[#moves + 1] = { line[1], '', 0, left }
      end
    end
    return missing, moves
  end

  -- Adds moves to an account. is_usage: they are of usage, and not of the grants themselves.
  function credits.add_moves(account, moves, is_usage)
    local sum = 0
    for _, move in ipairs(moves) do
      local id, more = move[2], move[3] - move[4]
      sum = sum + more
      if id == '' then
        account.overdrawn = account.overdrawn - more
      else
        local grant = credits.find(account, id)
          or credits.insert(account, { id, 0, 0, 0, 0, 1, 3, 0, false, false })
        grant[REMAINING] = grant[REMAINING] + more
      end
    end
    if is_usage then
      account.used = account.used - sum
    else
      account.granted = account.granted + sum
    end
    account.changed = true
  end

  local function varint(number)
    local bytes = ''
    while number >= 128 do
      local low = number % 128
      bytes = bytes .. string.char(low + 128)
      number = (number - low) / 128
    end
    return bytes .. string.char(number)
  end

  -- Moves as the field credit_moves of a LedgerEntry: to be put behind one.
  function credits.encode(moves)
    local parts = {}
    for i, move in ipairs(moves) do
      local message = (move[1] > 0 and '\8' .. varint(move[1]) or '')
        .. (move[2] ~= '' and '\18' .. varint(#move[2]) .. move[2] or '')
        .. (move[3] > 0 and '\24' .. varint(move[3]) or '') .. (move[4] > 0 and '\32' .. varint(move[4]) or '')
      parts[i] = '\146\3' .. varint(#message) .. message
    end
    return table.concat(parts)
  end

  -- Reads moves: '<I2' how many; each '<I2Bc0I8I8'.
  function credits.read_moves(packed, position)
    local moves, count = {}, 0
    count, position = struct.unpack('<I2', packed, position)
    for i = 1, count do
      local line, id, given, taken
      line, id, given, taken, position = struct.unpack('<I2Bc0I8I8', packed, position)
      moves[i] = { line, id, given, taken }
    end
    return moves, position
  end

  -- Whether there are no moves.
  function credits.has_none(packed, position)
    return struct.unpack('<I2', packed, position) == 0
  end

  -- Debits a record, or what a correction makes of one. packed from position: moves that give back what had been
  -- debited, then the call. Returns the moves; nil when a sum would be too large, and then nothing has changed.
  function credits.charge(account, packed, position, claims)
    local moves, call, sum = {}, nil, 0
    moves, position = credits.read_moves(packed, position)
    call, sum = credits.read_call(account, packed, position)
    if account.used + sum > COUNT_MAX then
      return nil
    end
    credits.add_moves(account, moves, true)
    local _, debits = credits.allot(account, call, account.now, {}, claims)
    credits.add_moves(account, debits, true)
    for _, move in ipairs(debits) do
      moves[#moves + 1] = move
    end
    return moves
  end

  -- Does once more what an entry has done before.
  function credits.repeat_moves(account, packed, position, is_usage)
    local moves = credits.read_moves(packed, position)
    credits.add_moves(account, moves, is_usage)
    return moves
  end
end
