"""How a transfer can fail, by what follows from it."""

from enum import StrEnum


class Blame(StrEnum):
    ORDER = "order"  # what the order says is wrong: it would fail at every site
    SITE = "site"  # not from this site, or not by its settings: another site may manage
    LUCK = "luck"  # another try may go through
    CHANGED = "changed"  # what was fetched so far is of no use: from the start


class TransferFailed(Exception):
    """`text` is for people and holds neither the query of a URL nor a credential."""

    def __init__(self, blame: Blame, text: str) -> None:
        super().__init__(text)
        self.blame = blame
        self.text = text
