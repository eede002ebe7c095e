# SPDX-License-Identifier: Apache-2.0
"""One table of the contract suite's results: a row per case, a column per language."""

import pytest
from clients.languages import LANGUAGES

CONTRACT_RESULT = "contract_result"
"""The property of a test's report that names case and language."""
_results: dict[tuple[str, str], str] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep the outcome of a test of the suite, whichever process ran it."""
    for name, value in report.user_properties:
        if name == CONTRACT_RESULT and isinstance(value, tuple) and (report.when == "call" or report.failed):
            _results[value] = "FAILED" if report.failed else "ok"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table."""
    if not _results:
        return
    names = [language.name for language in LANGUAGES]
    cases = list(dict.fromkeys(case for case, _ in _results))
    width = max(map(len, cases))
    terminalreporter.section("contract suite, by language")
    terminalreporter.write_line(" ".join(["".ljust(width), *(name.ljust(7) for name in names)]).rstrip())
    for case in cases:
        cells = [_results.get((case, name), "-").ljust(7) for name in names]
        terminalreporter.write_line(" ".join([case.ljust(width), *cells]).rstrip())
