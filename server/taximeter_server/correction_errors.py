# SPDX-License-Identifier: Apache-2.0
"""Why a record cannot be corrected."""

from taximeter_server.errors import RequestError


class RecordVoidedError(RequestError):
    """The record was taken back, and what is void cannot be amended."""

    reason = "RECORD_VOIDED"

    def __init__(self, correction_id: str) -> None:
        super().__init__(
            f"the record was taken back by {correction_id}: record what happened under another id",
            {"correction_id": correction_id},
        )


class RecordIsCorrectionError(RequestError):
    """A correction cannot be corrected. record_id: of the record that it corrects."""

    reason = "RECORD_IS_CORRECTION"

    def __init__(self, record_id: str) -> None:
        super().__init__(
            f"this is a correction of {record_id}: correct that record", {"record_id": record_id}
        )


class CorrectionConflictError(RequestError):
    """Others correct the record at the same time."""

    reason = "CORRECTION_CONFLICT"

    def __init__(self) -> None:
        super().__init__("others correct the record at the same time: look at it again")
