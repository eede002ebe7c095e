# SPDX-License-Identifier: Apache-2.0
"""An invoice as a PDF on A4. The same invoice gives the same bytes."""

import functools
import io
from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import escape

from reportlab.lib.colors import HexColor
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFError, TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    BaseDocTemplate,
    Flowable,
    Frame,
    KeepTogether,
    PageTemplate,
    Paragraph,
    Spacer,
    Table,
)

from taximeter_server.errors import InvalidFieldsError
from taximeter_server.invoice_issuer import Issuer
from taximeter_server.invoice_page import InvoicePage, PageLine

INK, SOFT, RULE = HexColor("#1a1d21"), HexColor("#5b6470"), HexColor("#d9dde3")
MARGIN = 18 * mm
FOOT_SIZE = 8
_WIDTH = A4[0] - 2 * MARGIN
_COLUMNS = (_WIDTH - 110 * mm, 44 * mm, 30 * mm, 36 * mm)
_FONT_ADVICE = (
    "has characters that the PDF's font cannot write; name a font_file in the issuer's file, or ask for HTML"
)


def render_pdf(page: InvoicePage, issuer: Issuer) -> bytes:
    """Return the document. Raises InvalidFieldsError where its fonts cannot write the text, or cannot be read."""
    fonts = _fonts(issuer)
    _check_letters(page, fonts)
    styles = _Styles(*fonts)
    content = io.BytesIO()
    title = f"{page.title} {page.number}"
    document = BaseDocTemplate(
        content,
        pagesize=A4,
        leftMargin=MARGIN,
        rightMargin=MARGIN,
        topMargin=MARGIN,
        bottomMargin=MARGIN + 6 * mm,
        title=title,
        author=page.issuer_name,
        # Without it the file would name the moment at which it was made.
        invariant=1,
    )
    frame = Frame(MARGIN, MARGIN + 6 * mm, _WIDTH, A4[1] - 2 * MARGIN - 6 * mm, 0, 0, 0, 0)
    document.addPageTemplates([PageTemplate(frames=[frame])])
    canvas = functools.partial(_NumberedCanvas, foot=title, font=fonts[0])
    document.build(_story(page, styles), canvasmaker=canvas)
    return content.getvalue()


class _Styles:
    """How texts look."""

    def __init__(self, font: str, bold: str) -> None:
        base = ParagraphStyle("base", fontName=font, fontSize=9, leading=13, textColor=INK)
        self.text = base
        self.soft = ParagraphStyle("soft", base, textColor=SOFT)
        self.strong = ParagraphStyle("strong", base, fontName=bold, fontSize=11, leading=15)
        self.title = ParagraphStyle("title", base, fontName=bold, fontSize=22, leading=26)
        self.state = ParagraphStyle("state", base, fontName=bold)
        self.head = ParagraphStyle("head", base, fontName=bold, fontSize=8, leading=11)
        self.head_right = ParagraphStyle("head-right", self.head, alignment=TA_RIGHT)
        self.right = ParagraphStyle("right", base, alignment=TA_RIGHT)
        self.total = ParagraphStyle("total", base, fontName=bold, fontSize=12, leading=16)
        self.total_right = ParagraphStyle("total-right", self.total, alignment=TA_RIGHT)


class _NumberedCanvas(Canvas):  # type: ignore[misc]  # the library has no types
    """Writes "Page 2 of 5" on each page, which is known at the end alone."""

    def __init__(self, *args: Any, foot: str, font: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._foot, self._font = foot, font
        self._pages: list[dict[str, Any]] = []

    def showPage(self) -> None:  # noqa: N802 (the library's)
        """Keep the page until its number is known."""
        self._pages.append(dict(self.__dict__))
        self._startPage()

    def save(self) -> None:
        """Number all pages and write the file."""
        pages = self._pages
        for number, state in enumerate(pages, start=1):
            self.__dict__.update(state)
            self.setFont(self._font, FOOT_SIZE)
            self.setFillColor(SOFT)
            self.drawString(MARGIN, MARGIN - 4 * mm, self._foot)
            self.drawRightString(A4[0] - MARGIN, MARGIN - 4 * mm, f"Page {number} of {len(pages)}")
            super().showPage()
        super().save()


def _fonts(issuer: Issuer) -> tuple[str, str]:
    """Return the names of the font and the bold one."""
    if not issuer.font_file:
        return "Helvetica", "Helvetica-Bold"
    names = []
    for path in (issuer.font_file, issuer.bold_font_file or issuer.font_file):
        if path not in pdfmetrics.getRegisteredFontNames():
            try:
                pdfmetrics.registerFont(TTFont(path, path))
            except (TTFError, OSError):
                raise InvalidFieldsError.of(
                    "format", "the font_file of the issuer's file cannot be read"
                ) from None
        names.append(path)
    return names[0], names[1]


def _check_letters(page: InvoicePage, fonts: Sequence[str]) -> None:
    """Raise InvalidFieldsError for a text that would come out as boxes."""
    texts = [
        *(page.title, page.number, page.state, page.issuer_name, page.customer_name, page.footer),
        *(text for pair in (*page.facts, *page.totals) for text in pair),
        *(text for line in page.lines for text in (line.description, line.period, line.quantity)),
        *(*page.issuer_lines, *page.customer_lines, *page.notes),
    ]
    letters = {letter for text in texts for letter in text if letter.isprintable()}
    for name in fonts:
        font = pdfmetrics.getFont(name)
        known = getattr(font.face, "charToGlyph", None)
        missing = [
            letter
            for letter in letters
            if (ord(letter) not in known if known is not None else not _is_latin(letter))
        ]
        if missing:
            raise InvalidFieldsError.of("format", _FONT_ADVICE)


def _is_latin(letter: str) -> bool:
    try:
        letter.encode("cp1252")
    except UnicodeEncodeError:
        return False
    return True


def _story(page: InvoicePage, styles: _Styles) -> list[Flowable]:
    issuer = [Paragraph(escape(page.issuer_name), styles.strong), *_lines(page.issuer_lines, styles)]
    title = [Paragraph(escape(page.title), styles.title)]
    if page.state:
        title.append(Paragraph(escape(page.state), styles.state))
    title.append(Spacer(0, 2 * mm))
    facts = [
        [Paragraph(escape(name), styles.soft), Paragraph(escape(value), styles.text)]
        for name, value in page.facts
    ]
    title.append(_plain(facts, (26 * mm, _WIDTH // 2 - 26 * mm)))
    customer = [
        Paragraph("Billed to", styles.head),
        Paragraph(escape(page.customer_name), styles.strong),
        *_lines(page.customer_lines, styles),
    ]
    notes = [Paragraph(_breaking(note), styles.text) for note in page.notes]
    footer = [Spacer(0, 6 * mm), Paragraph(_breaking(page.footer), styles.soft)] if page.footer else []
    return [
        _plain([[issuer, title]], (_WIDTH // 2, _WIDTH // 2)),
        Spacer(0, 10 * mm),
        *customer,
        Spacer(0, 10 * mm),
        _lines_table(page, styles),
        Spacer(0, 5 * mm),
        KeepTogether([_totals(page, styles)]),
        Spacer(0, 8 * mm),
        KeepTogether([*notes, *footer]),
    ]


def _lines(lines: Sequence[str], styles: _Styles) -> list[Flowable]:
    return [Paragraph(escape(line), styles.soft) for line in lines]


def _breaking(text: str) -> str:
    return escape(text).replace("\n", "<br/>")


def _plain(rows: Sequence[Sequence[Any]], widths: Sequence[Any]) -> Table:
    style = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (-1, -1), 0),
        ("RIGHTPADDING", (0, 0), (-1, -1), 0),
        ("TOPPADDING", (0, 0), (-1, -1), 0),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 0),
    ]
    return Table(rows, colWidths=widths, style=style, hAlign="LEFT")


def _lines_table(page: InvoicePage, styles: _Styles) -> Table:
    names = ("Description", "Period", "Quantity", f"Amount in {page.currency_code}")
    head = [
        Paragraph(escape(name), styles.head if at < 2 else styles.head_right)  # noqa: PLR2004 (numbers stand right)
        for at, name in enumerate(names)
    ]
    rows = [head, *(_row(line, styles) for line in page.lines)]
    style = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (-1, -1), 0),
        ("RIGHTPADDING", (0, 0), (-2, -1), 4 * mm),
        ("RIGHTPADDING", (-1, 0), (-1, -1), 0),
        ("TOPPADDING", (0, 0), (-1, -1), 2 * mm),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 2 * mm),
        ("LINEBELOW", (0, 0), (-1, 0), 1, INK),
        ("LINEBELOW", (0, 1), (-1, -1), 1, RULE),
    ]
    return Table(rows, colWidths=_COLUMNS, repeatRows=1, style=style)


def _row(line: PageLine, styles: _Styles) -> list[Paragraph]:
    exact = f'<br/><font size="7" color="#5b6470">exactly {escape(line.exact)}</font>' if line.exact else ""
    return [
        Paragraph(escape(line.description), styles.text),
        Paragraph(escape(line.period), styles.soft),
        Paragraph(escape(line.quantity), styles.right),
        Paragraph(escape(line.amount) + exact, styles.right),
    ]


def _totals(page: InvoicePage, styles: _Styles) -> Table:
    last = len(page.totals) - 1
    rows = [
        [
            Paragraph(escape(name), styles.total if at == last else styles.soft),
            Paragraph(escape(value), styles.total_right if at == last else styles.right),
        ]
        for at, (name, value) in enumerate(page.totals)
    ]
    style = [
        ("LEFTPADDING", (0, 0), (-1, -1), 0),
        ("RIGHTPADDING", (0, 0), (-1, -1), 0),
        ("TOPPADDING", (0, 0), (-1, -1), 1 * mm),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 1 * mm),
        ("LINEABOVE", (0, last), (-1, last), 1, INK),
        ("TOPPADDING", (0, last), (-1, last), 2 * mm),
    ]
    return Table(rows, colWidths=(36 * mm, 44 * mm), hAlign="RIGHT", style=style)
