# SPDX-License-Identifier: Apache-2.0
"""What becomes of a record that should have said something else."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from taximeter.money import Money
from taximeter.results import CostLine


class CorrectionKind(StrEnum):
    """What a correction does."""

    ADJUSTMENT = "ADJUSTMENT"
    """Another price for the same usage."""
    VOID = "VOID"
    """The record is taken back."""
    AMENDMENT = "AMENDMENT"
    """The record was something else."""
    UNRECOGNIZED = "UNRECOGNIZED"
    """Newer than this client."""


@dataclass(frozen=True, slots=True)
class CorrectedRecord:
    """What a correction made of a record."""

    duplicate: bool
    """True when the record was this already; then nothing changed."""
    correction_id: str
    """Identity of the correction, which `explain_record` takes, too. Empty where there never was one."""
    occur_time: datetime
    """When the record happened: reports of that time show the correction."""
    previous_cost: Money
    """What the record had come to before."""
    cost: Money
    """What it comes to now."""
    lines: tuple[CostLine, ...]
    """What it is now; none for a void record."""
