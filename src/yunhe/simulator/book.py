"""The books of a simulated network: balances that change by the posting sets of the core, and by nothing else."""

from collections import defaultdict
from collections.abc import Mapping

from yunhe.core import posting
from yunhe.core.errors import InsufficientFunds
from yunhe.core.posting import PostingKind, PostingSet


class Book:
    """Amounts in micro-CNY by account. Sums to zero at any time, as every posting moves what it moves."""

    def __init__(self) -> None:
        self._balances: defaultdict[str, int] = defaultdict(int)
        self.sets: dict[str, int] = dict.fromkeys(PostingKind, 0)  # that were booked

    def book(self, entry: PostingSet) -> None:
        """Raises InsufficientFunds, with nothing booked, where a hold is more than its customer has."""
        balances = self._balances
        if entry.kind is PostingKind.HOLD:
            for move in entry.postings:
                if balances[move.source] < move.amount:
                    raise InsufficientFunds(f"{move.source} has {balances[move.source]} of {move.amount} micro-CNY")
        for move in entry.postings:
            balances[move.source] -= move.amount
            balances[move.destination] += move.amount
        self.sets[entry.kind] += 1

    def balance(self, account: str) -> int:
        return self._balances.get(account, 0)

    def balances(self) -> Mapping[str, int]:
        """All accounts that ever had anything, by name."""
        return {name: self._balances[name] for name in sorted(self._balances)}

    def sum(self) -> int:
        """Zero."""
        return sum(self._balances.values())

    def held(self) -> int:
        return sum(amount for name, amount in self._balances.items() if name.endswith(":held"))

    def earned(self) -> dict[str, int]:
        """By provider."""
        prefix, suffix = "org:", ":earned"
        return {
            name[len(prefix) : -len(suffix)]: amount
            for name, amount in self.balances().items()
            if name.endswith(suffix) and amount
        }

    def fees(self) -> int:
        return self.balance(posting.FEES)
