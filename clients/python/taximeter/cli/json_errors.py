# SPDX-License-Identifier: Apache-2.0
"""Commands in the shape that scripts for hosted billing services expect: JSON, also for what goes wrong."""

import json
from typing import Any, NoReturn

import click

from taximeter.errors import ForbiddenError, TaximeterError


class JsonErrorGroup(click.Group):
    """Commands for scripts: whatever goes wrong is a JSON object on stdout and exit code 1, bad usage too."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command and turns what went wrong into an errorMessage."""
        try:
            return super().invoke(ctx)
        except ForbiddenError:
            _fail(ctx, "forbidden")
        except TaximeterError as error:
            _fail(ctx, str(error))
        except click.UsageError as error:
            _fail(ctx, error.format_message())


def _fail(ctx: click.Context, message: str) -> NoReturn:
    click.echo(json.dumps({"errorMessage": message}))
    ctx.exit(1)
