"""The Python client of a Yunhe hub.

    from yunhe.sdk import Client, Order, Requirement, Run

    with Client() as hub:
        order = hub.submit(Order(run=Run(command=("python", "-c", "print(1)")), requirement=Requirement(cores=1)))
        print(hub.wait(order.id).state)
        for line in hub.logs(order.id):
            print(line)

It knows only the messages of `yunhe.wire.api`; errors are those of `yunhe.core.errors`.
"""

from yunhe.sdk.client import Client
from yunhe.sdk.config import Profile, resolve
from yunhe.sdk.orderfile import load_order
from yunhe.wire.api import LatencySpec as Latency
from yunhe.wire.api import OrderSpec as Order
from yunhe.wire.api import RequirementSpec as Requirement
from yunhe.wire.api import RunSpec as Run

__all__ = ["Client", "Latency", "Order", "Profile", "Requirement", "Run", "load_order", "resolve"]
