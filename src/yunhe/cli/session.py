"""What the global options say; commands find it as `ctx.obj`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Session:
    url: str | None
    profile: str | None
