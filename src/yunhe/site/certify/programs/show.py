"""Computes the chain of a challenge and prints the answer; see `chain.py`, which lies beside it.

show.py KEY STACK PRECISION N WIDTH STEPS [FILE]

With FILE it gets ready, says "ready", and waits for the file, whose text is the key that counts.
"""

import base64
import importlib
import json
import os
import sys
import time
from typing import Any

LOOK_S = 0.002


def by_torch(chain: Any, challenge: Any, stack: str) -> Any:
    """As `chain.run`, on a card: the same numbers, whatever the library."""
    module = importlib.import_module("device")
    torch, device = module.open_torch(stack)
    if hasattr(torch.backends, "cuda"):
        torch.backends.cuda.matmul.allow_tf32 = False
    kind = torch.float64 if challenge.precision == "fp64" else torch.float32
    p = chain.MODULI[challenge.precision]
    a = torch.from_numpy(chain.factors(challenge)).to(device=device, dtype=kind)
    x = torch.from_numpy(chain.start(challenge)).to(device=device, dtype=kind)
    product = torch.empty_like(x)
    for which, by in chain.turns(challenge):
        torch.mm(a[which], torch.roll(x, by, 0), out=product)
        torch.sub(product, torch.floor(product / p) * p, out=x)
    return x.cpu().numpy()


def wait_for_key(chain: Any, challenge: Any, stack: str, file: str) -> bytes:
    """All that is no part of the work is done before: the library is there, and has multiplied once."""
    small = challenge._replace(steps=2)
    chain.run(small) if stack == "cpu" else by_torch(chain, small, stack)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while not os.path.exists(file):
        time.sleep(LOOK_S)
    with open(file, encoding="ascii") as text:
        return text.read().encode()


def main() -> None:
    chain = importlib.import_module("chain")
    key, stack, precision = sys.argv[1:4]
    n, width, steps = (int(word) for word in sys.argv[4:7])
    challenge = chain.Challenge(key.encode(), precision, n, width, steps)
    if len(sys.argv) > 7:
        challenge = challenge._replace(key=wait_for_key(chain, challenge, stack, sys.argv[7]))
    found = chain.run(challenge) if stack == "cpu" else by_torch(chain, challenge, stack)
    answer = chain.answer(challenge, found)
    texts = {name: base64.b64encode(part).decode() for name, part in answer._asdict().items()}
    sys.stdout.write(json.dumps(texts))


if __name__ == "__main__":
    main()
