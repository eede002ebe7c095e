# SPDX-License-Identifier: Apache-2.0
"""Writes the page: everything is in it, text, styles, charts and their library, and nothing is fetched.

All numbers are written here, exactly; the charts get the same amounts again to draw, and a table says what each shows.
"""

import json
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from string import Template

from taximeter.cli.output import cell_text, time_text
from taximeter.credits import credits_text
from taximeter.money import PICOS_PER_UNIT, decimal_string
from taximeter.page.cache_savings import permille
from taximeter.page.collect import LIMITS_MAX, Page, token_count
from taximeter.results import LimitKind, LimitStatus, Measures, ReportRow
from taximeter.settings import RateCardEntry

_LIBRARIES = ("d3.min.js", "plot.umd.min.js")
_LIMIT_NAMES = {
    LimitKind.REQUESTS_PER_MINUTE: "requests per minute",
    LimitKind.TOKENS_PER_DAY: "tokens today",
    LimitKind.COST_PER_DAY: "cost today",
    LimitKind.CREDITS: "credits",
}
_SHORT_ID = 12
_CENT_PICOS = PICOS_PER_UNIT // 100
_EPOCH_YEAR = 1970


def render(page: Page) -> str:
    """Returns the HTML document."""
    parts = files("taximeter") / "page"
    vendored = files("taximeter") / "third_party"
    title = f"{page.tenant or 'All tenants'}, {_days(page)}"
    template = Template((parts / "page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(f"Usage and cost: {title}"),
        heading=escape(page.tenant or "All tenants"),
        days=escape(_days(page)),
        subtitle=_subtitle(page),
        style=(parts / "page.css").read_text(encoding="utf-8"),
        figures=_figures(page),
        trend_table=_trend_table(page),
        models=_ranking(page, page.models, "model", "Model"),
        tenants=_ranking(page, page.tenants, "tenant" if page.tenant else "root_tenant", "Tenant"),
        cache=_cache(page),
        unpriced=_unpriced(page),
        limits=_limits(page),
        cards=_cards(page),
        footer=_footer(page),
        again=_again(page),
        data=_script_json(_chart_data(page)),
        libraries="\n".join((vendored / name).read_text(encoding="utf-8") for name in _LIBRARIES),
        script=(parts / "page.js").read_text(encoding="utf-8"),
    )


def _script_json(document: object) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(document, ensure_ascii=False).replace("<", "\\u003c")


def _chart_data(page: Page) -> dict[str, object]:
    return {
        "currency": page.currency,
        "buckets": list(page.buckets),
        "series": [*page.series, "other models"],
        "trend": [
            {"bucket": bucket, "series": series, "cost": decimal_string(cost)}
            for bucket, series, cost in page.trend
        ],
        "models": _bars(page.models, "model"),
        "tenants": _bars(page.tenants, "tenant" if page.tenant else "root_tenant"),
    }


def _bars(rows: Sequence[ReportRow], dimension: str) -> list[dict[str, str]]:
    return [
        {"name": _name(row, dimension), "cost": decimal_string(row.measures.cost.picos)}
        for row in rows
        if row.measures.cost.picos > 0
    ]


def _name(row: ReportRow, dimension: str) -> str:
    if row.is_other:
        return "all others"
    value = row.group[dimension]
    # Printable, as in a terminal: text of others must not hide what follows it.
    return "(none)" if value is None else cell_text(value)


def _days(page: Page) -> str:
    first, last = page.period.first, page.period.last
    return first.isoformat() if first == last else f"{first.isoformat()} to {last.isoformat()}"


def _subtitle(page: Page) -> str:
    words = [f"Days in {page.period.time_zone.key}"]
    words += [
        f"{each.dimension} {each.operator.value.lower().replace('_', ' ')} {', '.join(each.values)}".strip()
        for each in page.filters
    ]
    return escape("; ".join(words))


def _figures(page: Page) -> str:
    before = f"{page.before.first.isoformat()} to {page.before.last.isoformat()}"
    total, earlier = page.total, page.total_before
    figures = (
        ("Cost", _money(page, total.cost.picos), _change(total.cost.picos, earlier.cost.picos)),
        ("Calls", f"{total.calls:,}", _change(total.calls, earlier.calls)),
        ("Tokens", f"{token_count(total):,}", _change(token_count(total), token_count(earlier))),
        ("Read from cache", _percent(page.savings.share_permille), "of prompt tokens"),
        ("Saved by caching", _money(page, page.savings.saved_picos), "against plain input"),
        (
            "Without a price",
            f"{_open_lines(total):,}",
            "lines, in no cost" if _open_lines(total) else "nothing",
        ),
    )
    cells = "".join(
        f'<div class="figure"><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(note)}</small></dd></div>'
        for name, value, note in figures
    )
    return f'<dl class="figures">{cells}</dl><p class="note">Changes are against {escape(before)}.</p>'


def _open_lines(measures: Measures) -> int:
    return measures.unpriced_lines - measures.adjusted_unpriced_lines


def _money(page: Page, picos: int) -> str:
    return f"{_cents(picos)} {page.currency}".rstrip()


def _cents(picos: int) -> str:
    """Two decimals for people, rounded half to even."""
    cents, rest = divmod(abs(picos), _CENT_PICOS)
    cents += 2 * rest > _CENT_PICOS or (2 * rest == _CENT_PICOS and cents % 2 == 1)
    sign = "\N{MINUS SIGN}" if picos < 0 and cents else ""
    return f"{sign}{cents // 100:,}.{cents % 100:02}"


def _percent(tenths: int) -> str:
    sign = "\N{MINUS SIGN}" if tenths < 0 else ""
    return f"{sign}{abs(tenths) // 10:,}.{abs(tenths) % 10} %"


def _change(now: int, before: int) -> str:
    if not before:
        return "nothing before" if now else "-"
    change = permille(now - before, before)
    return f"{'+' if change > 0 else ''}{_percent(change)}"


def _table(
    caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]], *, text_columns: int = 1
) -> str:
    """A table whose first text_columns columns are text and the others numbers. Cells are plain text."""

    def kind(index: int) -> str:
        return "" if index < text_columns else ' class="number"'

    head = "".join(f'<th scope="col"{kind(index)}>{escape(name)}</th>' for index, name in enumerate(heads))
    body = "".join(
        "<tr>" + "".join(
            f'<th scope="row">{escape(cell)}</th>' if index == 0 else f"<td{kind(index)}>{escape(cell)}</td>"
            for index, cell in enumerate(row)
        ) + "</tr>"
        for row in rows
    )  # fmt: skip
    return f"{_table_start(caption)}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _table_start(caption: str) -> str:
    # Whoever has no pointer scrolls a wide table by its focus, and should hear what that is.
    name = escape(caption)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{name}"><table><caption>{name}</caption>'
    )


def _trend_table(page: Page) -> str:
    sums = dict.fromkeys(page.buckets, 0)
    for bucket, _, cost in page.trend:
        sums[bucket] = sums.get(bucket, 0) + cost
    rows = [(bucket, _cents(cost)) for bucket, cost in sums.items()]
    what = "Month" if page.is_by_month else "Day"
    return _table(f"Cost by {what.lower()}, {page.currency}", (what, "Cost"), rows)


def _ranking(page: Page, rows: Sequence[ReportRow], dimension: str, head: str) -> str:
    if not rows:
        return "<p>No usage.</p>"
    total = page.total.cost.picos
    cells = [
        (
            _name(row, dimension),
            _cents(row.measures.cost.picos),
            _percent(permille(row.measures.cost.picos, total)) if total > 0 else "-",
            _change(row.measures.cost.picos, row.compared.cost.picos if row.compared else 0),
            f"{row.measures.calls:,}",
            f"{token_count(row.measures):,}",
        )
        for row in rows
    ]
    caption = f"Cost by {head.lower()}, {page.currency}"
    return _table(caption, (head, "Cost", "Share", "Change", "Calls", "Tokens"), cells)


def _cache(page: Page) -> str:
    found = page.savings
    prompt = found.input_tokens + found.read_tokens + found.write_tokens
    if not found.read_tokens and not found.write_tokens:
        return "<p>No prompt token was read from or written to a cache.</p>"
    not_compared = found.read_tokens + found.write_tokens - found.compared_tokens
    rows = (
        ("Read from a cache", f"{found.read_tokens:,}", _percent(permille(found.read_tokens, prompt))),
        ("Written to a cache", f"{found.write_tokens:,}", _percent(permille(found.write_tokens, prompt))),
        ("Plain input", f"{found.input_tokens:,}", _percent(permille(found.input_tokens, prompt))),
    )
    verb = "less" if found.saved_picos >= 0 else "more"
    text = (
        f"Cached prompt tokens cost {_money(page, abs(found.saved_picos))} {verb} than they would have as plain"
        " input, at the average price that was charged for plain input by the same row of the same card."
    )
    if not_compared:
        text += f" {not_compared:,} tokens have no plain input to be compared with and count as no saving."
    meter = "".join(
        f'<span class="{name}" style="flex:{quantity}"></span>'
        for name, quantity in (
            ("read", found.read_tokens),
            ("write", found.write_tokens),
            ("plain", found.input_tokens),
        )
        if quantity
    )
    table = _table("Prompt tokens", ("Kind", "Tokens", "Share"), rows)
    return f'<p>{escape(text)}</p><div class="bar" aria-hidden="true">{meter}</div>{table}'


def _unpriced(page: Page) -> str:
    if not page.unpriced:
        return "<p>Everything that was used had a price.</p>"
    rows = []
    for row in page.unpriced:
        quantity = sum(row.measures.quantities.values())
        name = "all others" if row.is_other else _name(row, "model")
        usage_class = "" if row.is_other else row.group["usage_class"] or ""
        rows.append((name, usage_class, f"{quantity:,}", f"{row.measures.unpriced_lines:,}"))
    note = "This usage had no price in the card when it was recorded, so it is not zero but unknown."
    heads = ("Model", "Class", "Quantity", "Lines")
    return f"<p>{note}</p>" + _table("Usage without a price", heads, rows, text_columns=2)


def _limits(page: Page) -> str:
    if not page.limits:
        return "<p>No limits are set.</p>"
    rows = "".join(_limit_row(page, limit) for limit in page.limits)
    note = f"As it is now, the {LIMITS_MAX} fullest." if len(page.limits) == LIMITS_MAX else "As it is now."
    return (
        f"<p>{note}</p>{_table_start('Use of limits')}<thead><tr>"
        '<th scope="col">Tenant</th><th scope="col">Limit</th><th scope="col">Use</th>'
        '<th scope="col" class="number">Used</th><th scope="col" class="number">Maximum</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _limit_row(page: Page, limit: LimitStatus) -> str:
    def quantity(value: int) -> str:
        if limit.kind is LimitKind.CREDITS:
            return credits_text(value)
        return _money(page, value) if limit.kind is LimitKind.COST_PER_DAY else f"{value:,}"

    used = limit.used + limit.held
    percent = used * 100 // limit.maximum if limit.maximum else 100
    name = _LIMIT_NAMES.get(limit.kind, limit.kind.value)
    return (
        f'<tr><th scope="row">{escape(limit.tenant)}</th><td>{escape(name)}</td>'
        f'<td><meter min="0" max="100" high="80" optimum="0" value="{min(percent, 100)}">'
        f"{percent} %</meter> {percent} %</td>"
        f'<td class="number">{escape(quantity(used))}</td>'
        f'<td class="number">{escape(quantity(limit.maximum))}</td></tr>'
    )


def _cards(page: Page) -> str:
    if not page.cards:
        return "<p>No card was in force.</p>"
    rows = [
        (
            str(card.version),
            card.rate_card_id[:_SHORT_ID],
            _in_force(card),
            cell_text(card.note),
        )
        for card in page.cards
    ]
    return _table("Rate cards in force", ("Version", "Card", "In force from", "Why"), rows, text_columns=4)


def _in_force(card: RateCardEntry) -> str:
    if card.effective_time is None or card.effective_time.year == _EPOCH_YEAR:
        return "the beginning"
    return time_text(card.effective_time) or ""


def _footer(page: Page) -> str:
    return (
        f"Made {escape(time_text(page.made_time) or '')} by Taximeter; holds everything recorded up to"
        f" {escape(time_text(page.as_of_time) or '')}. Every amount is the exact sum of the prices that were charged"
        " when the usage happened, rounded here to two decimals; JSON and CSV have all of them."
    )


def _again(page: Page) -> str:
    return f"Ask for the same period and tenant with <code>--as-of {escape(page.as_of)}</code>"
