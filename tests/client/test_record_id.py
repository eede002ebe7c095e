# SPDX-License-Identifier: Apache-2.0
"""Record ids are UUIDv7 and sort in the order in which they were made."""

import re
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from uuid import RFC_4122

from hypothesis import given
from hypothesis import strategies as st

from taximeter.record_id import RecordIds, new_record_id

TIMES_MS = st.integers(min_value=0, max_value=2**47)


@given(time_ms=TIMES_MS)
def test_uuid_has_version_variant_and_time(time_ms: int) -> None:
    """Version 7, the RFC's variant, and the milliseconds of the clock in the first 48 bits."""
    made = RecordIds(lambda: time_ms).new_uuid()

    assert (7, RFC_4122, time_ms) == (made.version, made.variant, made.int >> 80)


def test_rfc_example() -> None:
    """The example of RFC 9562, appendix A.6: 2022-02-22 19:22:22 UTC, rand_a 0xCC3, rand_b 0x18C4DC0C0C07398F."""
    random = (0x4C3 << 62) | 0x18C4DC0C0C07398F
    made = RecordIds(lambda: 1_645_557_742_000, random.to_bytes).new()

    # The counter starts below 2048, so its first bit is 0 where the example has 1.
    assert made == "017f22e2-79b0-74c3-98c4-dc0c0c07398f"


@given(times_ms=st.lists(TIMES_MS, min_size=2, max_size=50))
def test_ids_grow_whatever_the_clock_does(times_ms: list[int]) -> None:
    """Ids of one generator grow even when the clock stands still or goes back."""
    clock = iter(times_ms)
    ids = RecordIds(lambda: next(clock))
    made = [ids.new() for _ in times_ms]

    assert all(one < other for one, other in pairwise(made))


def test_ids_grow_beyond_the_counter_of_a_millisecond() -> None:
    """More ids than the counter holds borrow the milliseconds that follow."""
    ids = RecordIds(lambda: 1_000)
    made = [ids.new_uuid() for _ in range(10_000)]

    assert all(one < other for one, other in pairwise(made))
    assert all(uuid.version == 7 for uuid in made)
    assert 1_000 < made[-1].int >> 80 < 1_010


def test_threads_never_share_an_id() -> None:
    """Ids made by several threads at once are all different."""
    ids = RecordIds(lambda: 1_000, bytes)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: ids.new(), range(4_000)))

    assert len(set(made)) == 4_000


def test_default_ids_fit_the_server() -> None:
    """An id has 36 characters of the alphabet that the server takes."""
    assert re.fullmatch(
        r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", new_record_id()
    )
