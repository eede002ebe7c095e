-- SPDX-License-Identifier: Apache-2.0
-- Changes of credit accounts: opening one, grants, their expiry and void; and what is shown of an account. Loaded
-- behind credits.lua.

do
  local ID, REMAINING, EFFECTIVE, EXPIRE, ALLOW =
    CREDIT.ID, CREDIT.REMAINING, CREDIT.EFFECTIVE, CREDIT.EXPIRE, CREDIT.ALLOW
  -- By the name of what is to change. Each returns moves; or nil, and why not.
  local changes = {}

  function changes.account(account, change)
    if account.rate ~= 0 and account.rate ~= change.picos_per_microcredit then
      return nil, 'rate'
    end
    account.rate, account.policy = change.picos_per_microcredit, change.policy
    account.overdraft_max = change.overdraft_microcredits
    table.insert(account.writes, { 'account', change.json })
    return {}
  end

  local function is_granted(account, change)
    local before = redis.call('HGET', credits.hash_key(account, 'grants'), 'grant:' .. change.grant_id)
    if before then
      return cjson.decode(before).content_sha256 == change.content_sha256 and 'before' or 'conflict'
    end
    return nil
  end

  function changes.grant(account, change, is_repeated)
    local refusal = account.rate == 0 and 'no account' or is_granted(account, change)
    if refusal and not is_repeated then
      return nil, refusal
    elseif account.granted + change.amount_microcredits > COUNT_MAX then
      return nil, 'too much'
    end
    local models, classes = #change.models > 0 and change.models, #change.usage_classes > 0 and change.usage_classes
    local narrowness = models and (classes and 0 or 1) or classes and 2 or 3
    local grant = { change.grant_id, 0, change.priority, change.effective_second,
      change.expire_second, change.is_paid and 1 or 0, narrowness, change.create_time_ms, models, classes }
    for i, known in ipairs(account.grants) do
      if known[ID] == grant[ID] then
        -- Its use was given back before it was.
        grant[REMAINING] = known[REMAINING]
        table.remove(account.grants, i)
        break
      end
    end
    credits.insert(account, grant)
    table.insert(account.writes, { 'grant:' .. change.grant_id, change.json })
    local moves = { { 0, change.grant_id, change.amount_microcredits, 0 } }
    -- What is owed is paid first. Under ALLOW nothing is owed: what is overdrawn is invoiced.
    local owed = math.min(account.overdrawn, change.amount_microcredits)
    if owed > 0 and account.policy ~= ALLOW and narrowness == 3 and credits.is_usable(grant, account.now) then
      moves[2], moves[3] = { 0, change.grant_id, 0, owed }, { 0, '', owed, 0 }
    end
    return moves
  end

  -- What is left of a grant, and claimed by nobody, as a move that takes it.
  local function rest_of(account, grant)
    local rest = grant[REMAINING] - math.min(grant[REMAINING], account.held[grant[ID]] or 0)
    return rest > 0 and { { 0, grant[ID], 0, rest } } or {}
  end

  function changes.expiry(account, change, is_repeated)
    local grant = credits.find(account, change.grant_id)
    local moves = grant and not credits.is_usable(grant, account.now) and grant[EFFECTIVE] <= account.now
      and rest_of(account, grant) or {}
    if #moves == 0 and not is_repeated then
      return nil, 'nothing'
    end
    return moves
  end

  function changes.void(account, change, is_repeated)
    local grant = credits.find(account, change.grant_id)
    if not grant and is_repeated then
      return {}
    elseif not grant then
      return nil, 'unknown'
    end
    local moves = rest_of(account, grant)
    if #moves == 0 and not is_repeated then
      return nil, 'nothing'
    end
    -- What holds claim of it stays theirs; the rest of that expires.
    grant[EFFECTIVE], grant[EXPIRE] = math.min(grant[EFFECTIVE], account.now), account.now
    table.insert(account.writes, { 'void:' .. change.grant_id, change.json })
    return moves
  end

  -- Changes an account as an admin, or time, has it. packed: '<I4c0' the change as JSON; where is_repeated, its moves
  -- of the first time. Returns the moves; or nil and why not, and then nothing has changed.
  function credits.change(account, packed, position, is_repeated)
    local json
    json, position = struct.unpack('<I4c0', packed, position)
    local change = cjson.decode(json)
    change.json = json
    local moves, refusal = changes[change.op](account, change, is_repeated)
    if not moves then
      return nil, refusal
    end
    if is_repeated then
      moves = credits.read_moves(packed, position)
    end
    credits.add_moves(account, moves, false)
    return moves
  end

  -- The account as JSON; nil for none. Numbers are written whole.
  function credits.json(account)
    local grants, said = {}, {}
    for i, grant in ipairs(account.grants) do
      grants[i] = string.format('%s:[%d,%d,%d,%d]', cjson.encode(grant[ID]), grant[REMAINING],
        account.held[grant[ID]] or 0, grant[EFFECTIVE], grant[EXPIRE])
    end
    local fields = redis.call('HGETALL', credits.hash_key(account, 'grants'))
    for i = 1, #fields, 2 do
      said[#said + 1] = cjson.encode(fields[i]) .. ':' .. fields[i + 1]
    end
    return string.format('{"overdrawn":%d,"granted":%d,"used":%d,"held":%d,"now_second":%d,"grants":{%s},"said":{%s}}',
      account.overdrawn, account.granted, account.used, account.held_sum, account.now, table.concat(grants, ','),
      table.concat(said, ','))
  end
end
