# SPDX-License-Identifier: Apache-2.0
"""Client of Taximeter, which meters what AI workloads use, prices it, and decides before each call.

from taximeter import Meter, Usage

with Meter("http://127.0.0.1:7460", key="tx_...") as meter:
if meter.check_quota("acme", model="gpt-5").allowed:
...
meter.record("acme", Usage(uncached_input_tokens=1200, visible_output_tokens=300), model="gpt-5")
"""

from taximeter._reporting import ExportFormat
from taximeter.client import Meter
from taximeter.config import Connection, resolve_connection
from taximeter.errors import (
    AbortedError,
    CancelledError,
    ConfigurationError,
    ConflictError,
    DeadlineError,
    FieldViolation,
    ForbiddenError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    NotServedError,
    OutOfRangeError,
    OverloadedError,
    PreconditionError,
    ServerError,
    TaximeterError,
    UnauthenticatedError,
    UnavailableError,
)
from taximeter.money import Money, decimal_string, parse_picos, picos_of
from taximeter.record_id import RecordIds, new_record_id
from taximeter.report_query import Filter, FilterOperator, Measure, Order, ReportQuery
from taximeter.results import (
    BatchItem,
    CostLine,
    Durability,
    Estimate,
    EstimateLimit,
    LimitKind,
    LimitStatus,
    Measures,
    PricingState,
    QuotaDecision,
    RecordConflict,
    Recorded,
    Report,
    ReportRow,
    Sample,
)
from taximeter.settings import (
    Caller,
    CreatedKey,
    Key,
    Limits,
    PublishedRateCard,
    RateCard,
    RateCardCheck,
    RateCardEntry,
    RateCardProblem,
    Role,
    ServerStatus,
    Tenant,
)
from taximeter.usage import Usage, UsageQuality, UsageRecord

__all__ = [
    "AbortedError",
    "BatchItem",
    "Caller",
    "CancelledError",
    "ConfigurationError",
    "ConflictError",
    "Connection",
    "CostLine",
    "CreatedKey",
    "DeadlineError",
    "Durability",
    "Estimate",
    "EstimateLimit",
    "ExportFormat",
    "FieldViolation",
    "Filter",
    "FilterOperator",
    "ForbiddenError",
    "InternalError",
    "InvalidArgumentError",
    "Key",
    "LimitKind",
    "LimitStatus",
    "Limits",
    "Measure",
    "Measures",
    "Meter",
    "Money",
    "NotFoundError",
    "NotServedError",
    "Order",
    "OutOfRangeError",
    "OverloadedError",
    "PreconditionError",
    "PricingState",
    "PublishedRateCard",
    "QuotaDecision",
    "RateCard",
    "RateCardCheck",
    "RateCardEntry",
    "RateCardProblem",
    "RecordConflict",
    "RecordIds",
    "Recorded",
    "Report",
    "ReportQuery",
    "ReportRow",
    "Role",
    "Sample",
    "ServerError",
    "ServerStatus",
    "TaximeterError",
    "Tenant",
    "UnauthenticatedError",
    "UnavailableError",
    "Usage",
    "UsageQuality",
    "UsageRecord",
    "decimal_string",
    "new_record_id",
    "parse_picos",
    "picos_of",
    "resolve_connection",
]
