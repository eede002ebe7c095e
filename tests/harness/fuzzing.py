# SPDX-License-Identifier: Apache-2.0
"""Fuzzing by mutation: good inputs are bent, and whoever reads them may refuse them, but not fall over."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Run = Callable[[bytes], None]
"""Reads an input. Raises for anything but a proper refusal."""

_INTERESTING = (
    b"\x00",
    b"\xff",
    b"\x7f\xff\xff\xff",
    b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
    b"18446744073709551616",
    b"-1",
    b"1e999",
    b"\r\n",
    b"'",
    b'"',
    b"=",
    b"{}",
    b"&a [*a]",
    b"\xf0\x9f\x92\xa9",
    b"\xed\xa0\x80",
)
_STEPS_MAX = 6


class FellOverError(AssertionError):
    """An input that was neither read nor properly refused. The message says how to get it again."""


@dataclass(frozen=True)
class Target:
    """What is fuzzed: corpus are inputs that are good, or nearly."""

    name: str
    corpus: Sequence[bytes]
    run: Run


def mutate(random_source: random.Random, corpus: Sequence[bytes]) -> bytes:
    """Return a bent input: bytes changed, cut, repeated, spliced with another."""
    data = bytearray(random_source.choice(corpus))
    for _ in range(random_source.randint(1, _STEPS_MAX)):
        at, length = random_source.randint(0, len(data)), random_source.randint(1, 16)
        match random_source.randrange(7):
            case 0 if data:
                data[at % len(data)] ^= 1 << random_source.randrange(8)
            case 1:
                del data[at : at + length]
            case 2:
                data[at:at] = random_source.choice(_INTERESTING)
            case 3:
                data[at:at] = data[at : at + length] * random_source.randint(1, 8)
            case 4:
                data[at:at] = random_source.randbytes(length)
            case 5:
                other = random_source.choice(corpus)
                data[at:] = other[random_source.randint(0, len(other)) :]
            case _:
                del data[at:]
    return bytes(data)


def fuzz(target: Target, *, seed: int, count: int | None = None, duration_s: float | None = None) -> int:
    """Run the target on bent inputs, count of them or for duration_s. Returns how many.

    Raises FellOverError with the seed, the number and the input of the first that it does not stand.
    """
    random_source = random.Random(seed)
    deadline = None if duration_s is None else time.monotonic() + duration_s
    number = 0
    while number != count and (deadline is None or time.monotonic() < deadline):
        data = mutate(random_source, target.corpus)
        try:
            target.run(data)
        except BaseException as error:
            message = f"{target.name}: input {number} of seed {seed}: {data[:400]!r}"
            raise FellOverError(message) from error
        number += 1
    return number
