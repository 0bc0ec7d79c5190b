"""Commands that are only imported when they run.

`yunhe --help` must come at once, but the client (httpx, pydantic models) takes half a second to import and the hub
more. So a group holds one line per command, and the module behind a command is imported when it is resolved: this
is the one place where the command line imports late, and no module needs an import inside a function.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group


@dataclass(frozen=True, slots=True)
class Leaf:
    """A command: `module:attribute` names the Typer application that has it under the same name."""

    target: str
    help: str
    panel: str | None = None


@dataclass(frozen=True, slots=True)
class Branch:
    """A group of commands."""

    help: str
    children: Mapping[str, Leaf]
    panel: str | None = None
    usual: str = ""  # the command that is meant where none is named


Tree = Mapping[str, Leaf | Branch]


class Stub(TyperCommand):
    """What help and completion show of a command that has not been imported."""

    def __init__(self, name: str, leaf: Leaf) -> None:
        super().__init__(name, help=leaf.help, short_help=leaf.help, rich_help_panel=leaf.panel)
        self.leaf = leaf

    def load(self) -> TyperCommand:
        module, _, attribute = self.leaf.target.partition(":")
        application = getattr(importlib.import_module(module), attribute or "app")
        if not isinstance(application, typer.Typer):
            raise TypeError(f"{self.leaf.target} is not a Typer application")
        command = get_group(application).commands[self.name or ""]
        if not isinstance(command, TyperCommand):
            raise TypeError(f"{self.leaf.target} has no command {self.name}")
        return command


class LazyGroup(TyperGroup):
    """A group over a `Tree`. Subclasses name their tree; groups inside it are made from its branches."""

    tree: ClassVar[Tree] = {}

    def __init__(self, **settings: Any) -> None:
        tree, self._usual = settings.pop("tree", self.tree), settings.pop("usual", "")
        super().__init__(**settings)
        for name, entry in tree.items():
            if isinstance(entry, Leaf):
                self.add_command(Stub(name, entry))
            else:
                group = LazyGroup(
                    name=name,
                    tree=entry.children,
                    usual=entry.usual,
                    help=entry.help,
                    short_help=entry.help,
                    rich_help_panel=entry.panel,
                )
                self.add_command(group)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if self._usual and "--help" not in args and (not args or args[0].startswith("-")):
            args = [self._usual, *args]
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.load() if isinstance(command, Stub) else command, rest
