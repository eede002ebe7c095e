# SPDX-License-Identifier: Apache-2.0
"""Plans as YAML files, read by the reader of rate cards: numbers stay text, and problems come all at once."""

import re
from collections.abc import Callable, Mapping
from typing import TypeVar

from taximeter_server._native import MappingNode, Mark, Scalar, join_path
from taximeter_server.credit_grant import BLOCK, MICROCREDITS_PER_CREDIT
from taximeter_server.errors import InvalidFieldsError
from taximeter_server.limits import Limits
from taximeter_server.plan_terms import (
    COOLDOWN_S_DEFAULT,
    DAY,
    DUE_DAYS_DEFAULT,
    MONTH,
    OVERAGE_POLICIES,
    YEAR,
    Cadence,
    CreditTerms,
    PlanTerms,
    TopUpTerms,
)
from taximeter_server.plans import Plan
from taximeter_server.rate_card_problems import (
    WHOLE_FILE,
    ProblemList,
    RateCardInvalidError,
    TooManyProblemsError,
)
from taximeter_server.rate_card_reader import Reader
from taximeter_server.rate_card_values import PICOS_PER_UNIT
from taximeter_server.rate_card_yaml import Node, parse_yaml

_TERMS = ("price", "currency", "cadence", "due_days", "credits")
_FIELDS = ("name", "display_name", "limits", *_TERMS)
_LIMITS = ("requests_per_minute", "tokens_per_day", "cost_per_day", "shadow")
_CREDITS = ("price", "included", "expire", "overage", "top_up")
_OVERAGE = ("price", "policy", "overdraft")
_TOP_UP = ("amount", "price", "below", "cooldown", "daily_max")

_FIELDS_OF = {
    "limits.cost_per_day_picos": "limits.cost_per_day",
    "currency_code": "currency",
    "cadence.count": "cadence",
    "credits.picos_per_microcredit": "credits.price",
    "credits.included_microcredits": "credits.included",
    "credits.included_expire_days": "credits.expire",
    "credits.overage_price": "credits.overage.price",
    "credits.overdraft_microcredits": "credits.overage.overdraft",
    "credits.top_up.amount_microcredits": "credits.top_up.amount",
    "credits.top_up.threshold_microcredits": "credits.top_up.below",
    "credits.top_up.daily_count_max": "credits.top_up.daily_max",
}
"""Fields of a file by those of a plan that they become."""

_CADENCE = re.compile(r"(?:([1-9][0-9]{0,2}) )?(day|month|year)s?")
_EXPIRE = re.compile(r"([1-9][0-9]{0,3}) days?")
_DURATION = re.compile(r"(0|[1-9][0-9]{0,5}) (second|minute|hour|day)s?")
_SECONDS = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400}
_PERIOD, _NEVER = -1, 0
"""When included credits expire, where it is no number of days."""

Fields = Mapping[str, tuple[Scalar, Node]]
Read = TypeVar("Read")


class PlanInvalidError(RateCardInvalidError):
    """A plan's file with problems, in the order of the file."""

    reason = "PLAN_INVALID"


def read_plan(source: str) -> Plan:
    """Return the plan in a file. Raises PlanInvalidError that lists every problem with its place."""
    problems = ProblemList()
    plan = None
    try:
        root = parse_yaml(source, problems)
        if root is None:
            problems.add(WHOLE_FILE, "", "FIELD_REQUIRED", "the file is empty")
        else:
            plan = _PlanReader(problems).plan(root)
    except TooManyProblemsError:
        pass
    problems.raise_if_any(PlanInvalidError)
    if plan is None:
        raise AssertionError("no plan and no problem")
    return plan


class _PlanReader(Reader):
    def plan(self, root: Node) -> Plan:
        fields = self.fields(root, "", _FIELDS)
        self._require(root, fields, "", "name")
        plan = Plan(
            name=self._read(fields, "", "name", self._text, ""),
            display_name=self._read(fields, "", "display_name", self._text, ""),
            limits=self._limits(fields),
            terms=self._terms(root, fields) if any(name in fields for name in _TERMS) else None,
        )
        if not self.problems:
            self._check(root, plan)
        return plan

    def _check(self, root: Node, plan: Plan) -> None:
        """Note what is out of range, at the place of the nearest field of the file."""
        try:
            plan.check()
        except InvalidFieldsError as error:
            for violation in error.violations:
                field = violation.field.removeprefix("plan.").removeprefix("terms.")
                field = _FIELDS_OF.get(field, field)
                mark = _mark_of(root, field.split("."))
                self.problems.add(mark, field, violation.reason, f"must be {violation.description}")

    def _limits(self, fields: Fields) -> Limits:
        if "limits" not in fields:
            return Limits()
        found = self.fields(fields["limits"][1], "limits", _LIMITS)
        nothing: list[str] = []
        shadow = self._read(found, "limits", "shadow", self._shadow, nothing)
        return Limits(
            requests_per_minute=self._read(found, "limits", "requests_per_minute", self._count, None),
            tokens_per_day=self._read(found, "limits", "tokens_per_day", self._count, None),
            cost_per_day_picos=self._read(found, "limits", "cost_per_day", self._amount, None),
            shadow=tuple(name for name in _LIMITS if name in shadow),
        )

    def _shadow(self, node: Node, path: str) -> list[str]:
        return self.names(node, path, _LIMITS[:-1], "LIMIT_UNKNOWN", "limit")

    def _terms(self, root: Node, fields: Fields) -> PlanTerms:
        for name in ("price", "currency", "cadence"):
            self._require(root, fields, "", name)
        return PlanTerms(
            currency_code=self._read(fields, "", "currency", self._text, "USD"),
            price_picos=self._read(fields, "", "price", self._amount, 0),
            cadence=self._read(fields, "", "cadence", self._cadence, Cadence(MONTH, 1)),
            due_days=self._read(fields, "", "due_days", self._count, DUE_DAYS_DEFAULT),
            credits=self._read(fields, "", "credits", self._credits, None),
        )

    def _credits(self, node: Node, path: str) -> CreditTerms | None:
        fields = self.fields(node, path, _CREDITS)
        self._require(node, fields, path, "price")
        credit_picos = self._read(fields, path, "price", self._amount, MICROCREDITS_PER_CREDIT)
        if credit_picos % MICROCREDITS_PER_CREDIT or not credit_picos:
            mark, field = fields["price"][1].mark, join_path(path, "price")
            message = "the price of a credit: above 0, of at most 6 decimals"
            self.problems.add(mark, field, "CREDIT_PRICE", message)
        expire = self._read(fields, path, "expire", self._expire, _PERIOD)
        none: tuple[int | None, str, int] = (None, BLOCK, 0)
        overage_picos, policy, overdraft = self._read(fields, path, "overage", self._overage, none)
        return CreditTerms(
            picos_per_microcredit=credit_picos // MICROCREDITS_PER_CREDIT,
            included_microcredits=self._read(fields, path, "included", self._microcredits, 0),
            included_expire_days=None if expire == _PERIOD else expire,
            overage_picos=overage_picos,
            overage_policy=policy,
            overdraft_microcredits=overdraft,
            top_up=self._read(fields, path, "top_up", self._top_up, None),
        )

    def _overage(self, node: Node, path: str) -> tuple[int | None, str, int]:
        fields = self.fields(node, path, _OVERAGE)
        return (
            self._read(fields, path, "price", self._amount, None),
            self._read(fields, path, "policy", self._policy, BLOCK),
            self._read(fields, path, "overdraft", self._microcredits, 0),
        )

    def _top_up(self, node: Node, path: str) -> TopUpTerms:
        fields = self.fields(node, path, _TOP_UP)
        for name in ("amount", "price", "below"):
            self._require(node, fields, path, name)
        return TopUpTerms(
            amount_microcredits=self._read(fields, path, "amount", self._microcredits, 1),
            price_picos=self._read(fields, path, "price", self._amount, 0),
            threshold_microcredits=self._read(fields, path, "below", self._microcredits, 0),
            cooldown_s=self._read(fields, path, "cooldown", self._duration_s, COOLDOWN_S_DEFAULT),
            daily_count_max=self._read(fields, path, "daily_max", self._count, 1),
        )

    def _require(self, node: Node, fields: Fields, path: str, name: str) -> None:
        if name not in fields and isinstance(node, MappingNode):
            self.problems.add(node.mark, join_path(path, name), "FIELD_REQUIRED", f"required: {name}")

    def _read(
        self,
        fields: Fields,
        path: str,
        name: str,
        read: Callable[[Node, str], Read | None],
        default: Read,
    ) -> Read:
        """Return what read makes of a field, default where it is missing or wrong."""
        if name not in fields:
            return default
        found = read(fields[name][1], join_path(path, name))
        return default if found is None else found

    def _text(self, node: Node, path: str) -> str | None:
        found = self.text(node, path, "a text")
        return None if found is None else str(found.text)

    def _amount(self, node: Node, path: str) -> int | None:
        return self.decimal_picos(node, path, "amount")

    def _count(self, node: Node, path: str) -> int | None:
        return self.integer(node, path, minimum=0)

    def _microcredits(self, node: Node, path: str) -> int | None:
        """Return a number of credits with at most 6 decimals."""
        picos = self.decimal_picos(node, path, "credits")
        if picos is None or picos % (PICOS_PER_UNIT // MICROCREDITS_PER_CREDIT) == 0:
            return None if picos is None else picos // (PICOS_PER_UNIT // MICROCREDITS_PER_CREDIT)
        self.problems.add(node.mark, path, "DECIMAL_INVALID", "credits: at most 6 decimals")
        return None

    def _parsed_text(
        self, node: Node, path: str, parse: Callable[[str], Read | None], wanted: str
    ) -> Read | None:
        return self.parsed(self.text(node, path, wanted), path, parse, "VALUE_INVALID", wanted)

    def _cadence(self, node: Node, path: str) -> Cadence | None:
        return self._parsed_text(
            node, path, _parse_cadence, "day, month, year, or such as 3 months or 30 days"
        )

    def _expire(self, node: Node, path: str) -> int | None:
        return self._parsed_text(
            node, path, _parse_expire, "period, never, or a number of days such as 90 days"
        )

    def _policy(self, node: Node, path: str) -> str | None:
        wanted = "block, overdraft or allow"
        return self._parsed_text(node, path, lambda text: text if text in OVERAGE_POLICIES else None, wanted)

    def _duration_s(self, node: Node, path: str) -> int | None:
        return self._parsed_text(
            node, path, _parse_duration_s, "a duration such as 30 minutes, 2 hours or 1 day"
        )


def _parse_cadence(text: str) -> Cadence | None:
    found = _CADENCE.fullmatch(text)
    if found is None:
        return None
    return Cadence({"day": DAY, "month": MONTH, "year": YEAR}[found[2]], int(found[1] or 1))


def _parse_expire(text: str) -> int | None:
    if text in {"period", "never"}:
        return _PERIOD if text == "period" else _NEVER
    found = _EXPIRE.fullmatch(text)
    return None if found is None else int(found[1])


def _parse_duration_s(text: str) -> int | None:
    found = _DURATION.fullmatch(text)
    return None if found is None else int(found[1]) * _SECONDS[found[2]]


def _mark_of(node: Node, names: list[str]) -> Mark:
    """Return the place of a field, or of what holds it."""
    for name in names:
        if not isinstance(node, MappingNode) or name not in node.entries:
            break
        node = node.entries[name][1]
    return node.mark
