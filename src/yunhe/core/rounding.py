"""Integer division that rounds up: what is charged or reserved is never less than what was used."""


def ceil_div(numerator: int, denominator: int) -> int:
    """`numerator / denominator` rounded towards plus infinity; `denominator` must be positive."""
    return -(-numerator // denominator)
