"""Where an order comes from that one hub passed down to another: it keeps its identity, whatever way it took."""

from typing import Annotated

from pydantic import Field

from yunhe.wire.message import Message

# Hubs that one order may go through. A network of a nation, its regions, their cities and what these stand on is four;
# each hub more adds its round and its fee, and hides the customer further from the site.
MAX_HUBS = 4

HubId = Annotated[str, Field(pattern=r"^hub_[0-9a-f]{16}$")]


class Origin(Message):
    """Of an order that a hub has passed down; the customer's own has none.

    Whoever sends it says so and nobody vouches for it: it can only make a hub refuse the order, and name things.
    """

    hubs: Annotated[tuple[HubId, ...], Field(min_length=1, max_length=16)]  # the customer's first, the sender last
    # The customer's own task, as the first hub names it: its order's id and its number are parts of that.
    lease_id: Annotated[str, Field(max_length=80, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]*$")]
    index: Annotated[int, Field(ge=0, le=100_000)] = 0  # of the task in the customer's array
    # Stands for the customer's organisation without naming it: whose jobs may see each other's files.
    tenant: Annotated[str, Field(pattern=r"^[0-9a-f]{0,16}$")] = ""
