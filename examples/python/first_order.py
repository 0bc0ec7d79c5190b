"""A first order in Python: ask what it would cost, place it, follow its log, and see what it came to.

Start a network in another terminal (`yunhe up` or `make demo`), then:

    .venv/bin/python examples/python/first_order.py

The hub is found as the command line finds it: YUNHE_URL and YUNHE_API_KEY, or what `yunhe login` stored.
"""

import sys

from yunhe.core.errors import YunheError
from yunhe.core.lifecycle import OrderState
from yunhe.sdk import Client, Order, Requirement, Run

PROGRAM = """
inside = sum(1 for i in range(1_000) for j in range(1_000) if (i + 0.5) ** 2 + (j + 0.5) ** 2 < 1_000 ** 2)
print("pi is about", 4 * inside / 1_000_000)
"""


def main() -> int:
    order = Order(
        name="first order",
        run=Run(command=("python", "pi.py"), files={"pi.py": PROGRAM}),
        requirement=Requirement(cores=0.25, memory="128MiB"),
        duration="2m",
        budget="0.10CNY",
    )
    with Client() as hub:
        quote = hub.quote(order)
        for offer in quote.offers:
            print(f"{offer.site_name}: {offer.price.total_microcny / 1e6:.6f} CNY, {offer.carbon_mg / 1000:.3f} g CO2")
        for refused in quote.refused:
            print(f"{refused.site_name}: {'; '.join(f'{r.code}: {r.need}, has {r.have}' for r in refused.reasons)}")

        placed = hub.submit(order)
        for line in hub.logs(placed.id):
            print(f"  {line}")
        ended = hub.wait(placed.id, timeout=120)
        print(f"{ended.id} {ended.state}: {ended.charged_microcny / 1e6:.6f} CNY")
        return 0 if ended.state is OrderState.SUCCEEDED else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except YunheError as error:
        sys.exit(str(error))
