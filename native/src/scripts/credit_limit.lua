-- SPDX-License-Identifier: Apache-2.0
-- Credits as a limit: whether a call has room, and what holds claim. Loaded behind credits.lua.

do
  local ID, REMAINING, EFFECTIVE = CREDIT.ID, CREDIT.REMAINING, CREDIT.EFFECTIVE
  local BLOCK, OVERDRAFT, ALLOW = CREDIT.BLOCK, CREDIT.OVERDRAFT, CREDIT.ALLOW
  local NO_LIMIT = 1e300
  local CANDIDATES_MAX = 100

  local function overdraft_max(account)
    return account.policy == OVERDRAFT and account.overdraft_max or account.policy == BLOCK and 0 or NO_LIMIT
  end

  -- What a check needs: the call at its end, or something when it does not say.
  function credits.need(account, packed, position)
    local call, sum = { model = '', row = '', lines = {} }, 0
    if position <= #packed then
      call, sum = credits.read_call(account, packed, position)
    end
    if sum == 0 then
      call.lines = { { 0, '', 1 } }
    end
    return call
  end

  local function is_short_at(account, call, now, held, claims)
    local missing = credits.allot(account, call, now, held, claims or {})
    local owed = account.policy == ALLOW and 0 or math.max(account.overdrawn, 0)
    return owed + (held[''] or 0) + missing > (account.policy == ALLOW and 0 or overdraft_max(account))
  end

  -- Whether credits have no room for a call, and whether that denies it.
  function credits.is_short(account, call)
    local is_short = is_short_at(account, call, account.now, account.held)
    return is_short, is_short and account.policy ~= ALLOW
  end

  -- First second at which credits have room for a call that they deny, nil for none that is known.
  function credits.free_at(account, call)
    if account.policy == ALLOW then
      return 0
    end
    local seconds = {}
    for _, claim in ipairs(account.claims) do
      seconds[#seconds + 1] = claim[CLAIM.UNTIL] - account.shift
    end
    for _, grant in ipairs(account.grants) do
      seconds[#seconds + 1] = grant[EFFECTIVE]
    end
    table.sort(seconds)
    local last, tried = account.now, 0
    for _, second in ipairs(seconds) do
      if second > last and tried < CANDIDATES_MAX then
        last, tried = second, tried + 1
        if not is_short_at(account, call, second, (credits.held_at(account, second + account.shift))) then
          return second
        end
      end
    end
    return nil
  end

  local function refresh_held(account)
    account.held, account.held_sum = credits.held_at(account, account.now + account.shift)
    account.changed = true
  end

  -- Adds what a hold claims of each grant to the claims until a second, or takes it out (sign -1).
  local function change_claims(account, until_second, claims, sign)
    for id, amount in pairs(claims) do
      local found = nil
      for i, claim in ipairs(account.claims) do
        if claim[CLAIM.UNTIL] == until_second and claim[CLAIM.ID] == id then
          claim[CLAIM.AMOUNT] = claim[CLAIM.AMOUNT] + sign * amount
          found = i
          break
        end
      end
      if not found and sign > 0 then
        table.insert(account.claims, { until_second, id, amount })
      elseif found and account.claims[found][CLAIM.AMOUNT] <= 0 then
        table.remove(account.claims, found)
      end
    end
    refresh_held(account)
  end

  -- Claims of a hold as its mark keeps them: per grant '<I8Bc0'.
  local function pack_claims(claims)
    local packed = ''
    for id, amount in pairs(claims) do
      packed = packed .. struct.pack('<I8Bc0', amount, #id, id)
    end
    return packed
  end

  function credits.read_claims(packed)
    local claims, position, amount, id = {}, 1, nil, nil
    while position <= #packed do
      amount, id, position = struct.unpack('<I8Bc0', packed, position)
      claims[id] = amount
    end
    return claims
  end

  local function claims_of(moves)
    local claims = {}
    for _, move in ipairs(moves) do
      claims[move[2]] = (claims[move[2]] or 0) + move[4]
    end
    return claims
  end

  -- Claims what a call is to cost until a second of the level's own clock. Returns the claims as a mark keeps them.
  function credits.claim(account, call, until_second)
    local _, moves = credits.allot(account, call, account.now, account.held, {})
    local claims = claims_of(moves)
    change_claims(account, until_second, claims, 1)
    return pack_claims(claims)
  end

  -- Frees what a hold claims until a second.
  function credits.unclaim(account, until_second, packed)
    change_claims(account, until_second, credits.read_claims(packed), -1)
  end

  -- Claims for a hold that is to live until another second, and for a call that may need more than it claims so far.
  function credits.claim_again(account, call, until_before, until_second, packed)
    local claims, sum, more = credits.read_claims(packed), 0, 0
    for _, amount in pairs(claims) do
      sum = sum + amount
    end
    for _, line in ipairs(call.lines) do
      more = more + line[3]
    end
    change_claims(account, until_before, claims, -1)
    if more > sum then
      local _, moves = credits.allot(account, call, account.now, account.held, claims)
      claims = claims_of(moves)
    end
    change_claims(account, until_second, claims, 1)
    return pack_claims(claims)
  end

  -- Whether credits have no room for what a call needs beyond what its hold claims, and whether that denies it.
  function credits.is_short_again(account, call, packed)
    local own, kept = credits.read_claims(packed), {}
    for id, amount in pairs(account.held) do
      kept[id] = amount - math.min(amount, own[id] or 0)
    end
    local sum, more = 0, 0
    for _, amount in pairs(own) do
      sum = sum + amount
    end
    for _, line in ipairs(call.lines) do
      more = more + line[3]
    end
    local is_short = more > sum and is_short_at(account, call, account.now, kept, own)
    return is_short, is_short and account.policy ~= ALLOW
  end

  -- '<I8I8I8' what has been granted and not expired, with the overdraft; used; held.
  function credits.status(account)
    local dead = 0
    for _, grant in ipairs(account.grants) do
      if not credits.is_usable(grant, account.now) then
        dead = dead + grant[REMAINING] - math.min(grant[REMAINING], account.held[grant[ID]] or 0)
      end
    end
    local more = account.policy == OVERDRAFT and account.overdraft_max or 0
    return struct.pack('<I8I8I8', math.max(account.granted - dead + more, 0), math.max(account.used, 0),
      account.held_sum)
  end

  -- Flags of the limit in a status: under ALLOW it is only watched.
  function credits.flags(account)
    return account.policy == ALLOW and HAS_CREDITS + HAS_CREDITS * SHADOW or HAS_CREDITS
  end
end
