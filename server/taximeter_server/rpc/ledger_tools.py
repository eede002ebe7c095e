# SPDX-License-Identifier: Apache-2.0
"""What looks into the ledger for RateCardService and MeteringService, made together: they share one database."""

from collections.abc import Callable

import duckdb

from taximeter_server import _native
from taximeter_server.adjustments import AdjustmentPoster
from taximeter_server.card_comparison import CardComparer
from taximeter_server.credits import Credits
from taximeter_server.ledger_directory import LedgerDirectory
from taximeter_server.rate_card_timeline import RateCardTimeline
from taximeter_server.record_correction import RecordCorrector
from taximeter_server.record_entries import RecordFinder
from taximeter_server.record_explanation import RecordExplainer
from taximeter_server.rpc.corrections import RecordCorrections
from taximeter_server.rpc.rate_card_tools import LedgerTools


def make_ledger_tools(
    engine: _native.Engine,
    ledger: LedgerDirectory,
    timeline: RateCardTimeline,
    database: duckdb.DuckDBPyConnection,
    account_credits: Credits,
    *,
    currency_code: Callable[[], str],
) -> tuple[LedgerTools, RecordCorrections]:
    """Return both. currency_code: of the newest card."""

    def canonical_json(rate_card_id: str) -> str:
        return timeline.card(rate_card_id).canonical_json

    finder = RecordFinder(engine, ledger, database=database)
    corrector = RecordCorrector(
        finder,
        canonical_json=canonical_json,
        post=engine.post_adjustments,
        expect_returns=account_credits.expect_returns,
    )
    tools = LedgerTools(
        comparer=CardComparer(engine, ledger, price_rows=engine.price_rows, database=database),
        poster=AdjustmentPoster(engine.post_adjustments),
        explainer=RecordExplainer(finder, canonical_json=canonical_json),
        currency_code=currency_code,
    )
    return tools, RecordCorrections(corrector, currency_code=currency_code)
