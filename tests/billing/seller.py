# SPDX-License-Identifier: Apache-2.0
"""All that sells credits, on a real store and engine that live by a clock which the test sets."""

import itertools
import secrets
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from billing.set_clock import NoLimits
from quota.conftest import Stepped
from quota.engine_calls import catalogue
from quota.test_credits_model import CARD, PRICES
from reports.stream_engine import StreamEngine

from taximeter.v1 import metering_service_pb2 as pb
from taximeter_server.billing import Billing
from taximeter_server.credit_entries import CreditEntries, CreditEntry
from taximeter_server.credit_grant import ALLOW, BLOCK
from taximeter_server.credits import Credits
from taximeter_server.ledger import BEFORE_ALL
from taximeter_server.ledger_directory import LedgerDirectory
from taximeter_server.limits import Limits
from taximeter_server.payment_accounts import PaymentAccount, PaymentAccounts
from taximeter_server.payment_none import NoPayments
from taximeter_server.payment_store import PaymentStore
from taximeter_server.plan_terms import MONTH, Cadence, CreditTerms, PlanTerms, TopUpTerms
from taximeter_server.plans import Plan, Plans
from taximeter_server.record_correction import RecordCorrector, Target
from taximeter_server.record_entries import RecordFinder
from taximeter_server.report import Reporter
from taximeter_server.report_database import open_report_database
from taximeter_server.store import DocumentStore
from taximeter_server.top_ups import TopUps

RATE_PICOS = 10_000
CENTS = 10**10
TOP_UP = TopUpTerms(
    amount_microcredits=500_000_000,
    price_picos=45 * 10**11,
    threshold_microcredits=100_000_000,
    cooldown_s=86_400,
    daily_count_max=1,
)
TERMS = {
    "bills": (
        29 * 10**12,
        CreditTerms(
            picos_per_microcredit=RATE_PICOS,
            included_microcredits=300_000_000,
            overage_policy=ALLOW,
            overage_picos=12 * 10**9,
            top_up=TOP_UP,
        ),
    ),
    "bills-more": (
        10**12 // 3,
        CreditTerms(
            picos_per_microcredit=RATE_PICOS,
            included_microcredits=10_000_001,
            included_expire_days=45,
            overage_policy=ALLOW,
            overage_picos=10**10 + 7,
            top_up=TOP_UP,
        ),
    ),
    "blocks": (
        99 * 10**12,
        CreditTerms(
            picos_per_microcredit=RATE_PICOS,
            included_microcredits=5_000_000_000,
            included_expire_days=0,
            overage_policy=BLOCK,
            top_up=TOP_UP,
        ),
    ),
}
"""Prices and terms of plans."""

_TENANTS = (f"seller{number}" for number in itertools.count())
_ENTRIES_MAX = 100_000


class Expiries:
    """Keeps when grants expire, as the store does."""

    def __init__(self) -> None:
        self.grant_ids: dict[str, int] = {}

    def put_expiry(self, _tenant: str, grant_id: str, time_ms: int) -> None:
        """Note a grant."""
        self.grant_ids[grant_id] = time_ms


class Seller:
    """One server's parts. recorded: microcredits of each record that stands, by its id."""

    def __init__(self, stepped: Stepped, directory: Path) -> None:
        self._stepped = stepped
        self.tenant = next(_TENANTS)
        self.store_url = stepped.store.url
        self.recorded: dict[str, int] = {}
        stepped.engine.set_catalogue(catalogue(CARD))
        documents = self._documents = DocumentStore(self.store_url)
        payments = self._payments = PaymentStore(self.store_url, documents.fsync, documents.changes)
        (directory / "journal").mkdir()
        (directory / "ledger").mkdir()
        reader = self._reader = StreamEngine(self.store_url, directory / "journal")
        ledger = LedgerDirectory(directory / "ledger")
        self._reporter = Reporter(
            reader, ledger, token_secret=b"sixteen bytes or more", temporary_directory=directory / "overflow"
        )
        database = self._database = open_report_database(
            directory / "overflow" / "entries", memory_limit_bytes=256 << 20
        )
        self._expiries = Expiries()
        self.credits = Credits(stepped.engine, self._expiries, documents.changes, self.clock)
        self._plans = Plans(documents, NoLimits(), self.clock)
        self.billing = Billing(
            documents,
            self._plans,
            self._reporter,
            self.credits,
            audited=lambda _name: nullcontext(),
            clock=self.clock,
            currency_code=lambda: "USD",
            grace_seconds=3_600,
        )
        accounts = PaymentAccounts(payments, NoPayments(), self.clock)
        accounts.put(PaymentAccount(tenant=self.tenant))
        self.top_ups = TopUps(
            documents.billing,
            payments,
            accounts,
            self.credits,
            is_configured=True,
            currency_code=lambda: "USD",
            audited=lambda _name: nullcontext(),
            clock=self.clock,
        )
        self._entries = CreditEntries(reader, ledger, database=database)
        finder = RecordFinder(reader, ledger, database=database)
        self._corrector = RecordCorrector(
            finder,
            canonical_json=_no_card,
            post=stepped.engine.post_adjustments,
            expect_returns=self.credits.expect_returns,
        )

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close everything."""
        self._reporter.close()
        self._database.close()
        self._reader.close()
        self._payments.close()
        self._documents.close()

    @property
    def now_ms(self) -> int:
        """The time, in milliseconds since 1970 UTC."""
        return self._stepped.now_ms

    def clock(self) -> int:
        """Return the time."""
        return self.now_ms

    def advance(self, seconds: int) -> None:
        """Let time pass."""
        self._stepped.advance(seconds * 1_000)

    def put_plan(self, name: str) -> None:
        """Put one of the plans."""
        price_picos, terms = TERMS[name]
        made = PlanTerms(
            currency_code="USD", price_picos=price_picos, cadence=Cadence(MONTH, 1), credits=terms
        )
        self._plans.put(Plan(name=name, limits=Limits(), terms=made))

    def expire_due(self) -> None:
        """Expire what is due."""
        for grant_id, time_ms in list(self._expiries.grant_ids.items()):
            if time_ms <= self.now_ms and self.credits.expire(self.tenant, grant_id):
                del self._expiries.grant_ids[grant_id]

    def record(self, model: str, tokens: int, output_tokens: int, *, late_ms: int) -> None:
        """Record a call."""
        request = pb.RecordRequest()
        request.record.record_id = secrets.token_hex(16)
        request.record.tenant = f"{self.tenant}/below"
        request.record.model = model
        request.record.occur_time.FromMilliseconds(self.now_ms - late_ms)
        request.record.usage.uncached_input_tokens = tokens
        request.record.usage.visible_output_tokens = output_tokens
        response = pb.RecordResponse.FromString(self._stepped.engine.record(request.SerializeToString()))
        costs = (tokens * PRICES[model][0], output_tokens * PRICES[model][1])
        wanted = sum(_half_even(cost, RATE_PICOS) for cost in costs)
        assert response.credit_microcredits == wanted
        self.recorded[request.record.record_id] = wanted

    def void_record(self, record_id: str) -> None:
        """Take a record back."""
        target = Target(f"{self.tenant}/below", record_id, None)
        self._corrector.correct(target, None, reason="a test", author="")
        del self.recorded[record_id]

    def read_entries(self) -> list[CreditEntry]:
        """Return all entries of the account."""
        return self._entries.read(self.tenant, grant_id="", after=BEFORE_ALL, count_max=_ENTRIES_MAX)


def _half_even(cost_picos: int, rate_picos: int) -> int:
    quotient, rest = divmod(cost_picos, rate_picos)
    return quotient + (2 * rest > rate_picos or (2 * rest == rate_picos and quotient % 2 == 1))


def _no_card(_rate_card_id: str) -> NoReturn:
    raise AssertionError("nothing is priced anew")
