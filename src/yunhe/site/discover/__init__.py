"""What a machine has: its processor and memory from the kernel, its cards from their vendors' own tools."""

from yunhe.site.discover.cards import Card, card_pools, find_cards
from yunhe.site.discover.host import (
    Share,
    catalogued,
    cpu_model,
    cpu_pool,
    nominal_fp64_flops,
    share,
    usable_memory,
    usable_milli,
)

__all__ = [
    "Card",
    "Share",
    "card_pools",
    "catalogued",
    "cpu_model",
    "cpu_pool",
    "find_cards",
    "nominal_fp64_flops",
    "share",
    "usable_memory",
    "usable_milli",
]
