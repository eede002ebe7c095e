# SPDX-License-Identifier: Apache-2.0
"""How log lines look: for people on a terminal, one JSON object per line otherwise."""

import sys
from typing import TYPE_CHECKING, TextIO

import structlog

if TYPE_CHECKING:
    from structlog.typing import Processor


def configure_logging(log_format: str, stream: TextIO = sys.stderr) -> None:
    """Send log lines to stream. log_format: "console", "json", or "auto" for what fits the stream.

    Tracebacks come without local variables: those may hold secrets.
    """
    processors: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if log_format == "console" or (log_format == "auto" and stream.isatty()):
        processors.append(
            structlog.dev.ConsoleRenderer(
                colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        )
    else:
        processors += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=processors,
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
