"""S3 and SFTP by fsspec: the same calls for both. Only what the site's options file says opens a door here."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

import fsspec  # type: ignore[import-untyped]

from yunhe.site.data.failure import Blame, TransferFailed

CONNECT_S = 10
READ_S = 30
S3_OPTIONS = frozenset({"endpoint_url", "key", "secret", "token", "region"})
SFTP_OPTIONS = frozenset({"username", "password", "private_key"})


def store_path(url: str) -> str:
    """`bucket/key` of an S3 URL, the absolute path of an SFTP one."""
    parts = urlsplit(url)
    path = unquote(parts.path)
    return f"{parts.netloc}{path}" if parts.scheme == "s3" else path


def open_store(url: str, options: Mapping[str, Any] | None, known_hosts: str) -> Any:
    """A file system of fsspec. Raises TransferFailed when this site lacks the library, or the settings for it."""
    parts = urlsplit(url)
    try:
        if parts.scheme == "s3":
            return _s3(_known(options or {}, S3_OPTIONS))
        return _sftp(parts.hostname or "", parts.port or 22, _known(options or {}, SFTP_OPTIONS), known_hosts)
    except ImportError:
        text = f"this site has no library for {parts.scheme} (pip install 'yunhe[{parts.scheme}]')"
        raise TransferFailed(Blame.SITE, text) from None


def _known(options: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    if unknown := sorted(set(options) - names):
        raise TransferFailed(Blame.ORDER, f"the options of its store have an unknown {unknown[0][:40]!r}")
    return dict(options)


def _s3(options: dict[str, Any]) -> Any:
    """Anonymous without a key: whatever the agent's own user may have access to is not the order's."""
    region = options.pop("region", None)
    return fsspec.filesystem(
        "s3",
        anon="key" not in options,
        client_kwargs={"region_name": region} if region else {},
        config_kwargs={"connect_timeout": CONNECT_S, "read_timeout": READ_S, "retries": {"max_attempts": 1}},
        skip_instance_cache=True,
        **options,
    )


def _sftp(host: str, port: int, options: dict[str, Any], known_hosts: str) -> Any:
    if not known_hosts:
        raise TransferFailed(Blame.SITE, "this site knows no SFTP servers (data.known_hosts)")
    if "username" not in options:
        raise TransferFailed(Blame.SITE, "neither the order nor this site has a user for this SFTP server")
    key = options.pop("private_key", None)
    return fsspec.filesystem(
        "sftp",
        host=host,
        port=port,
        known_hosts=known_hosts,
        connect_timeout=CONNECT_S,
        keepalive_interval=READ_S,
        # Neither the agent user's own keys nor its configuration.
        config=[],
        agent_path=None,
        client_keys=key.encode() if key else None,  # the key itself: text would be the name of a file
        **{"password": None, **options},
        skip_instance_cache=True,
    )
