"""Settings of a console: each has a unit, a default and a reason."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class ConsoleSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    hub_url: str
    host: str = "127.0.0.1"  # loopback unless the operator says otherwise
    port: int = Field(default=8450, ge=0, le=65535)
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    behind_tls: bool = False  # a proxy in front speaks https: cookies are for https alone
    call_timeout_s: float = Field(default=10.0, gt=0, le=60)  # one question to the hub; a page waits no longer
    session_idle_s: int = Field(default=8 * 3600, ge=1)  # a working day
    session_max_s: int = Field(default=7 * 86_400, ge=1)
    max_sessions: int = Field(default=10_000, ge=1)  # the least recently used one goes
    # Of one address, of those who are not signed in: pages and connections at once, and in the long run.
    visitor_requests: int = Field(default=300, ge=1)
    visitor_requests_per_s: float = Field(default=10.0, gt=0)
    calls_at_once: int = Field(default=16, ge=1, le=256)  # questions to the hub of all pages together

    @property
    def secure(self) -> bool:
        return self.behind_tls or self.tls_certificate is not None
