"""Options and arguments that several commands share."""

from typing import Annotated

import typer

from yunhe.cli.completion import complete_order, complete_site

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, and nothing else.")]
OrderId = Annotated[
    str, typer.Argument(help="The order's id, or `last`.", metavar="ORDER", autocompletion=complete_order)
]
OrderIds = Annotated[
    list[str], typer.Argument(help="Order ids, or `last`.", metavar="ORDER...", autocompletion=complete_order)
]
SiteId = Annotated[str, typer.Argument(help="The site's id.", metavar="SITE", autocompletion=complete_site)]
Timeout = Annotated[str | None, typer.Option("--timeout", help="Give up waiting after, for example, 10m.")]


def example(line: str) -> str:
    """The last line of a command's help."""
    return f"Example: {line}".replace("[", r"\[")
