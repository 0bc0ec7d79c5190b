"""Who orders: many short orders of several kinds, each submitted until it is known to be accepted."""

import asyncio
import hashlib
import json
import random
from dataclasses import dataclass, field

import httpx

from tests.faults.witness import HUSH, PROGRAM, VARIABLE

TRY_S = 10.0
PAUSE_S = (0.05, 0.5)
ENDED = frozenset({"succeeded", "failed", "cancelled", "withdrawn"})
CONNECTIONS = 64
SECRET_MARK = "hush-4711-"  # begins every secret
SECRET_SHARE = 3  # one order of so many has one


@dataclass(frozen=True, slots=True)
class Kind:
    """`share`: of all orders, in percent. `expected`: order states that a healthy network may give."""

    name: str
    share: int
    run_s: tuple[float, float]
    expected: tuple[str, ...] = ("succeeded",)
    status: int = 0
    retries: int = 0
    array: int = 1
    slots: int = 1
    duration: str = "30s"
    cancel_after_s: float | None = None  # at most

    @property
    def leaves_result(self) -> bool:
        return self.slots == 1 and self.status == 0 and self.expected == ("succeeded",)


KINDS = (
    Kind("short", 40, (0.05, 0.6)),
    Kind("long", 26, (1.0, 5.0)),
    Kind("array", 5, (0.1, 0.8), array=3),
    Kind("gang", 4, (0.2, 1.0), slots=2),
    Kind("fails", 6, (0.05, 0.5), expected=("failed",), status=3),
    Kind("retried", 4, (0.05, 0.4), expected=("failed",), status=3, retries=1),
    Kind("too long", 5, (8.0, 9.0), expected=("failed",), duration="1s"),
    Kind("cancelled", 10, (1.0, 3.0), expected=("cancelled", "withdrawn", "succeeded"), cancel_after_s=2.5),
)


@dataclass(frozen=True, slots=True)
class Delivered:
    log: str
    result: str


@dataclass
class Placed:
    key: str
    kind: Kind
    body: bytes
    order_id: str = ""
    answers: list[int] = field(default_factory=list)  # HTTP statuses of the submission, 0 for none


class Customers:
    """They reach the hubs by a bad link too, and know nothing but the API."""

    def __init__(self, url: str, key: str, pipe: str, dice: random.Random) -> None:
        self._http = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
            timeout=TRY_S,
            limits=httpx.Limits(max_connections=CONNECTIONS),
            trust_env=False,
        )
        self._dice = dice
        self._pipe = pipe
        self.orders: list[Placed] = []
        self.refused: list[str] = []

    async def close(self) -> None:
        await self._http.aclose()

    async def order_all(self, count: int, per_second: float) -> None:
        """Submit at a pace; returns when every submission is acknowledged."""
        tasks = []
        for number in range(count):
            placed = self._draw(number)
            self.orders.append(placed)
            tasks.append(asyncio.create_task(self._order(placed)))
            await asyncio.sleep(self._dice.expovariate(per_second))
        await asyncio.gather(*tasks)

    def _draw(self, number: int) -> Placed:
        (kind,) = self._dice.choices(KINDS, [kind.share for kind in KINDS])
        secret = f"{SECRET_MARK}{number}" if number % SECRET_SHARE == 0 else ""
        env = {VARIABLE: self._pipe} | ({HUSH: hashlib.sha256(secret.encode()).hexdigest()} if secret else {})
        spec = {
            "name": f"{kind.name} {number}",
            "run": {
                "command": ["python3", "-I", "-S", "-c", PROGRAM, f"{self._dice.uniform(*kind.run_s):.2f}"]
                + [str(kind.status)],
                "env": env,
                "secrets": {"TOKEN": secret} if secret else {},
                "outputs": ["result.txt"] if kind.leaves_result else [],
            },
            "requirement": {"cores": 0.15, "memory": "32MiB", "slots": kind.slots},
            "duration": kind.duration,
            "budget": "1CNY",
            "array": kind.array,
            "retries": kind.retries,
            "preference": self._dice.choice(("cost", "speed", "carbon")),
        }
        return Placed(f"key-{number}", kind, json.dumps(spec).encode())

    async def _order(self, placed: Placed) -> None:
        """The same key and body until the answer is known."""
        while not placed.order_id:
            answer = await self._try("POST", "/v1/orders", placed.body, {"Idempotency-Key": placed.key})
            placed.answers.append(answer.status_code if answer is not None else 0)
            if answer is not None and answer.status_code in (200, 201):
                placed.order_id = answer.json()["id"]
            elif answer is not None and answer.status_code < 500 and answer.status_code != 429:
                self.refused.append(f"{placed.key}: {answer.status_code} {answer.text}")
                return
            else:
                await asyncio.sleep(self._dice.uniform(*PAUSE_S))
        if placed.kind.cancel_after_s is not None:
            await asyncio.sleep(self._dice.uniform(0, placed.kind.cancel_after_s))
            await self._cancel(placed)

    async def _cancel(self, placed: Placed) -> None:
        while True:
            answer = await self._try("POST", f"/v1/orders/{placed.order_id}/cancel", b"")
            if answer is not None and answer.status_code in (200, 409):  # 409: it had ended already
                return
            if answer is not None and answer.status_code < 500 and answer.status_code != 429:
                self.refused.append(f"cancel of {placed.key}: {answer.status_code} {answer.text}")
                return
            await asyncio.sleep(self._dice.uniform(*PAUSE_S))

    async def _try(
        self, method: str, path: str, body: bytes, headers: dict[str, str] | None = None
    ) -> httpx.Response | None:
        """None: nobody knows what became of it."""
        try:
            return await self._http.request(method, path, content=body, headers=headers)
        except httpx.HTTPError:
            return None

    async def wait_all(self, seconds: float) -> list[str]:
        """Until every order has ended and is settled; those that have not by then."""
        until = asyncio.get_running_loop().time() + seconds
        open_ids = {placed.order_id for placed in self.orders if placed.order_id}
        while open_ids and asyncio.get_running_loop().time() < until:
            for order_id in sorted(open_ids):
                answer = await self._try("GET", f"/v1/orders/{order_id}", b"")
                if answer is not None and answer.status_code == 200:
                    view = answer.json()
                    if view["settled"] and view["state"] in ENDED:
                        open_ids.discard(order_id)
            await asyncio.sleep(0.2)
        return sorted(open_ids)

    async def delivered(self) -> dict[str, Delivered]:
        """Log and result of every task of the orders that leave one, by lease id."""
        found: dict[str, Delivered] = {}
        for placed in self.orders:
            for index in range(placed.kind.array if placed.kind.leaves_result and placed.order_id else 0):
                lease_id = f"{placed.order_id}.{index}"
                log = await self._download(f"/v1/orders/{placed.order_id}/logs?task={index}")
                output = f"/v1/orders/{placed.order_id}/outputs/content?lease_id={lease_id}&path=result.txt"
                found[lease_id] = Delivered(log, await self._download(output))
        return found

    async def _download(self, path: str) -> str:
        """Empty where there is nothing."""
        answer = await self._try("GET", path, b"")
        return answer.text if answer is not None and answer.is_success else ""
