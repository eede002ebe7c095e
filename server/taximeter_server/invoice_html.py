# SPDX-License-Identifier: Apache-2.0
"""An invoice as one page of HTML: nothing is loaded from anywhere, and it reads on a phone and prints."""

import importlib.resources
from collections.abc import Iterable
from html import escape

from taximeter_server.invoice_page import InvoicePage, PageLine

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def render_html(page: InvoicePage) -> bytes:
    """Return the document in UTF-8."""
    style = (importlib.resources.files("taximeter_server") / "invoice.css").read_text(encoding="utf-8")
    title = f"{page.title} {page.number}"
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title>",
        f"<style>\n{style}</style>",
        "</head>",
        "<body>",
        "<main>",
        f'<header><div class="from"><strong>{escape(page.issuer_name)}</strong>{_lines(page.issuer_lines)}</div>',
        f"<div><h1>{escape(page.title)}</h1>{_state(page.state)}{_facts(page)}</div></header>",
        f'<section class="to"><h2>Billed to</h2><strong>{escape(page.customer_name)}</strong>',
        f"{_lines(page.customer_lines)}</section>",
        _table(page),
        f'<dl class="totals">{_pairs(page.totals)}</dl>',
        *(f'<p class="note">{escape(note)}</p>' for note in page.notes),
        f"<footer>{escape(page.footer)}</footer>" if page.footer else "",
        "</main>",
        "</body>",
        "</html>",
    ]
    return "\n".join(part for part in parts if part).encode() + b"\n"


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"<span>{escape(line)}</span>" for line in lines)


def _state(state: str) -> str:
    return f'<p class="state">{escape(state)}</p>' if state else ""


def _facts(page: InvoicePage) -> str:
    return f"<dl>{_pairs(page.facts)}</dl>"


def _pairs(pairs: Iterable[tuple[str, str]]) -> str:
    return "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in pairs)


def _table(page: InvoicePage) -> str:
    amount = f"Amount in {page.currency_code}"
    heads = "".join(
        f'<th scope="col">{escape(name)}</th>' for name in ("Description", "Period", "Quantity", amount)
    )
    rows = "\n".join(_row(line) for line in page.lines)
    return f"<table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>"


def _row(line: PageLine) -> str:
    exact = f"<small>exactly {escape(line.exact)}</small>" if line.exact else ""
    return (
        f'<tr><td>{escape(line.description)}</td><td class="period">{escape(line.period)}</td>'
        f'<td class="number">{escape(line.quantity)}</td>'
        f'<td class="number amount">{escape(line.amount)}{exact}</td></tr>'
    )
