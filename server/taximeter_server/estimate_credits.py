# SPDX-License-Identifier: Apache-2.0
"""What calls that have not happened would do to credits: which grants would pay for them, in which order.

The same order and the same scopes as the store's, see scripts/credits.lua; here for many calls at once.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from taximeter_server.credit_grant import PAID, Grant
from taximeter_server.credits import AccountStatus, GrantStatus
from taximeter_server.estimate import MINUTE_MS, Batch, Outcome

_NEVER_MS = 1 << 62


@dataclass(frozen=True, slots=True)
class CreditLine:
    """What one call takes of one class. model, row, usage_class: "" for one that is not known, which may be any."""

    model: str
    row: str
    usage_class: str
    microcredits: int


@dataclass(slots=True)
class _Room:
    """What a grant can still give. covers: for each line of a call, whether it is in the grant's scope."""

    microcredits: int
    covers: Sequence[bool]


def run_credits(batch: Batch, lines: Sequence[CreditLine], account: AccountStatus, *, now_ms: int) -> Outcome:
    """Follow a batch, each call of which has these lines, until it has passed or nothing pays for the next call.

    What remains is what grants in scope, and the overdraft, could still give to calls like these.
    """
    grants = sorted((one for one in account.grants if one.state == "active"), key=_burn_order)
    rooms = [
        _Room(
            max(0, one.remaining_microcredits - one.held_microcredits),
            [is_in_scope(one.grant, line) for line in lines],
        )
        for one in grants
    ]
    rooms = [one for one in rooms if any(one.covers)]
    # What holds claim of no grant is as good as owed.
    held = account.held_microcredits - sum(one.held_microcredits for one in account.grants)
    overdraft = account.settings.overdraft_microcredits - account.overdrawn_microcredits - held
    passed = 0
    while passed < batch.item_count:
        taken, missing = _allot(lines, rooms)
        # So many calls in a row take the same of the same grants; at least the one that was just looked at.
        repeats = [room.microcredits // part for room, part in zip(rooms, taken, strict=True) if part]
        repeats += [overdraft // missing] if missing else []
        if missing > max(0, overdraft):
            break
        count = min([batch.item_count - passed, *(max(1, one) for one in repeats)])
        for room, part in zip(rooms, taken, strict=True):
            room.microcredits -= part * count
        overdraft -= missing * count
        passed += count
    left = sum(room.microcredits for room in rooms) + max(0, overdraft)
    if passed == batch.item_count:
        return Outcome(passed, left, None)
    wait_ms = 0 if not batch.calls_per_minute else passed * MINUTE_MS // batch.calls_per_minute
    return Outcome(passed, left, now_ms + wait_ms)


def _allot(lines: Sequence[CreditLine], rooms: Sequence[_Room]) -> tuple[list[int], int]:
    """Return what one call takes of each grant, and what none covers."""
    taken, missing = [0] * len(rooms), 0
    for at, line in enumerate(lines):
        left = line.microcredits
        for number, room in enumerate(rooms):
            if room.covers[at]:
                part = min(left, room.microcredits - taken[number])
                taken[number] += part
                left -= part
        missing += left
    return taken, missing


def is_in_scope(grant: Grant, line: CreditLine) -> bool:
    """Say whether a grant may pay for a line."""
    has_model = not grant.models or not line.model or bool({line.model, line.row} & {*grant.models})
    return has_model and (
        not grant.usage_classes or not line.usage_class or line.usage_class in grant.usage_classes
    )


def _burn_order(status: GrantStatus) -> tuple[int, int, bool, int, int, str]:
    grant = status.grant
    narrowness = (0 if grant.usage_classes else 1) if grant.models else (2 if grant.usage_classes else 3)
    return (
        grant.priority,
        grant.expire_time_ms or _NEVER_MS,
        grant.kind == PAID,
        narrowness,
        status.create_time_ms,
        grant.grant_id,
    )


def total_microcredits(lines: Iterable[CreditLine]) -> int:
    """Return what one call takes."""
    return sum(line.microcredits for line in lines)
