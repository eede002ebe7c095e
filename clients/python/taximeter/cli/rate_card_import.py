# SPDX-License-Identifier: Apache-2.0
"""`taximeter rate-card import`: a card made of the price data of another package."""

from pathlib import Path

import click

from taximeter.rate_card_import_data import IMPORTS, import_card


@click.command("import")
@click.argument("package", type=click.Choice(sorted(IMPORTS)))
@click.option(
    "--data",
    "data_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="JSON of the package's data, instead of the installed package's.",
)
@click.option("--provider", "providers", multiple=True, help="Only this provider's models; repeatable.")
@click.option(
    "--output-file",
    type=click.Path(path_type=Path, dir_okay=False, writable=True),
    help="Where the card goes. Default: stdout.",
)
def import_command(
    package: str, data_file: Path | None, providers: tuple[str, ...], output_file: Path | None
) -> None:
    """Turns the price data of a Python package into a rate card, which it does not publish.

    What a card cannot say stands in a comment before the row; counts by reason go to stderr.
    """
    card = import_card(package, data_file, providers)
    text = card.yaml_text()
    if output_file is None:
        click.echo(text, nl=False)
    else:
        try:
            output_file.write_text(text, encoding="utf-8")
        except OSError as error:
            message = f"cannot write {output_file}: {error.strerror}"
            raise click.ClickException(message) from error
    for line in card.summary():
        click.echo(line, err=True)
