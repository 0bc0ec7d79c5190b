"""How a Ray cluster is used."""

import json
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

Name = Annotated[str, Field(pattern=r"^[^\s=]{1,100}$")]
Mapping = Annotated[str, Field(pattern=r"^[^\s=]{1,100}=[^\s=]{1,100}$")]


class RaySettings(BaseModel):
    """How a Ray cluster is used; what holds its jobs is in `DriverSettings`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # The dashboard of the head, which serves the job API.
    address: str = Field(default="http://127.0.0.1:8265", pattern=r"^https?://[^/@\s]+/?$", max_length=300)
    # A file of mode 0600 with the token, where the cluster wants one (RAY_AUTH_MODE=token). None: no token is sent.
    token_file: Path | None = None
    # Certificate authorities (PEM) for a dashboard behind TLS. None: the system's.
    ca_file: Path | None = None
    # Folder that every node sees at the same path; None: the data directory is such a folder.
    shared_dir: Path | None = None
    # Python 3.11 or later as the nodes find it; None: the agent's own.
    python: str | None = None
    # A custom resource that only the nodes to be lent have: each job asks for a thousandth of it. None: all nodes.
    lent: Name | None = None
    # "NAME=CHIP": the catalogue's chip for an accelerator type or resource whose name does not say it exactly, as
    # "A100=a100-sxm-80g" or "MLU=mlu590". A resource that is named here counts as cards.
    chips: tuple[Mapping, ...] = ()
    # Cores that go with each card and are not offered as cores; None: half of a node's, divided by its cards.
    cores_per_card: int | None = Field(default=None, ge=1)
    # Ray's runtime environment of every job, as JSON; empty: none.
    runtime_env: str = Field(default="", max_length=10_000)
    # A call that takes longer has given no answer. Submitting waits for Ray's own agents, a second at worst.
    call_limit_ms: int = Field(default=10_000, ge=100)
    # Ray is asked for the list of jobs at most so often, for all leases together.
    listing_interval_ms: int = Field(default=1_000, ge=100)
    # A list older than this says nothing about now.
    listing_valid_ms: int = Field(default=5_000, ge=100)
    # The nodes leave word in a folder; it is looked at so often.
    news_ms: int = Field(default=100, ge=10)
    # A job that Ray no longer lists and that never began is submitted again after this time.
    vanished_ms: int = Field(default=5_000, ge=0)
    submit_tries: int = Field(default=3, ge=1)
    # A job that Ray calls running and that does not begin is given up after this time.
    start_ms: int = Field(default=120_000, ge=1_000)
    # Not running by Ray's list, and no record or sign of life for so long: lost. Several times `usage_write_ms`.
    lost_ms: int = Field(default=60_000, ge=100)
    # A cancel that is not followed within this time after the grace is followed by Ray's own.
    cancel_hard_ms: int = Field(default=10_000, ge=0)

    @field_validator("runtime_env")
    @classmethod
    def _is_an_object(cls, text: str) -> str:
        if text and not isinstance(json.loads(text), dict):
            raise ValueError("must be a JSON object")
        return text
