"""Every word that the console shows, in each language: `texts/LANGUAGE.toml`, one table per page.

A key is `page.name`; a value may have {holes}. Both files have the same keys and holes: a test sees to that.
"""

import tomllib
from functools import cache
from importlib import resources

LANGUAGES = {"en": "English", "zh": "中文"}


@cache
def texts(language: str) -> dict[str, str]:
    """By key. Raises KeyError for a language that is not in LANGUAGES."""
    raw = resources.files("yunhe.console").joinpath("texts", f"{language}.toml").read_text(encoding="utf-8")
    assert LANGUAGES[language]
    return {f"{page}.{name}": text for page, entries in tomllib.loads(raw).items() for name, text in entries.items()}


def say(language: str, key: str, **holes: object) -> str:
    """Raises KeyError for a key that no file has: a page that speaks must be tested."""
    text = texts(language)[key]
    return text.format(**holes) if holes else text
