"""The `yunhe` command: its tree, its global options, its errors and exit codes (docs/cli.md)."""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.exceptions import Abort, TyperException
from typer.main import get_command

from yunhe.cli.failure import FAILED, INTERRUPTED, OK, USAGE, complain, exit_code
from yunhe.cli.lazy import LazyGroup
from yunhe.cli.session import Session
from yunhe.cli.tree import TREE
from yunhe.core.errors import YunheError


class _Root(LazyGroup):
    tree = TREE


app = typer.Typer(
    cls=_Root, invoke_without_command=True, pretty_exceptions_enable=False, context_settings={"max_content_width": 110}
)


@app.callback(epilog="A first order: yunhe submit --cores 0.1 --follow -- python3 -c 'print(6 * 7)'")
def root(
    ctx: typer.Context,
    url: Annotated[str | None, typer.Option("--url", help="The hub's address, for this call.")] = None,
    profile: Annotated[str | None, typer.Option("--profile", help="A stored profile, for this call.")] = None,
    show_version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    """Yunhe: say what a job needs, and it runs where it runs best in a network of computing centres."""
    ctx.obj = Session(url, profile)
    if show_version:
        from importlib.metadata import version  # noqa: PLC0415 - a quarter of the time of --help, rarely used

        print(f"yunhe {version('yunhe')}")
        raise typer.Exit(OK)
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())
        raise typer.Exit(OK)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; the exit status. Bad input and failures are one line on stderr, never a traceback."""
    command = get_command(app)
    try:
        result = command.main(args=arguments, prog_name="yunhe", standalone_mode=False)
    except YunheError as error:
        complain(error.message, error.field, error.hint)
        return exit_code(error)
    except TyperException as error:
        context = getattr(error, "ctx", None)
        complain(error.format_message(), None, f"see `{context.command_path if context else 'yunhe'} --help`")
        return USAGE
    except OSError as error:  # a file or folder that the command reads or writes
        complain(error.strerror or str(error), str(error.filename) if error.filename else None)
        return FAILED
    except Abort:
        return INTERRUPTED
    return result if isinstance(result, int) else OK


if __name__ == "__main__":
    sys.exit(main())
