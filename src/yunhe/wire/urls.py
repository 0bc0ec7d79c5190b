"""URLs of data: which are taken in an order, and by a site."""

import re
from typing import Annotated
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field

SCHEMES = ("file", "http", "https", "s3", "sftp")
TASK = "{task}"  # stands for the number of the task in an array
MAX_URL_CHARS = 2_000

_TEXT = re.compile(r"[\x21-\x7e\u00a0-\U0010ffff]+")  # no blanks, no control characters


def _checked(url: str) -> str:
    """The URL itself. Raises ValueError with what is wrong, and never with the URL: it may hold a password."""
    if not _TEXT.fullmatch(url):
        raise ValueError("must not contain blanks or control characters: write them as %20")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError("is not a URL") from None
    if parts.scheme not in SCHEMES or "://" not in url:
        raise ValueError(f"must begin with one of {', '.join(f'{scheme}://' for scheme in SCHEMES)}")
    if "@" in parts.netloc:
        raise ValueError("must not hold a user or a password: name one of run.secrets in `secret`")
    if parts.fragment or (parts.query and parts.scheme not in ("http", "https")):
        raise ValueError("must end with the path")
    if (parts.scheme == "file") != (not host):
        raise ValueError("needs a host or bucket" if parts.scheme != "file" else "needs three slashes: file:///path")
    if parts.scheme != "http" and parts.scheme != "https" and parts.path in ("", "/"):
        raise ValueError("needs the path of a file")
    path = unquote(parts.path)
    if "\0" in path or any(segment in (".", "..") for segment in path.split("/")):
        raise ValueError("must not have '.' or '..' in its path")
    if re.search(r"[{}]", url.replace(TASK, "")):
        raise ValueError(f"the only place holder is {TASK}, the number of a task")
    return url


def _inside(path: str) -> str:
    if path.startswith("/") or ".." in path.split("/"):
        raise ValueError("must be a path inside the job's directory, without '..'")
    return path


JobPath = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]+$"), AfterValidator(_inside)]
DataUrl = Annotated[str, Field(min_length=1, max_length=MAX_URL_CHARS), AfterValidator(_checked)]


def shown(url: str) -> str:
    """A URL for people: without its query, which may be a signature that opens the file."""
    head, mark, _ = url.partition("?")
    return f"{head}?..." if mark else head
