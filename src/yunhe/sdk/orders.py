"""Calls about orders: quote, submit, watch, wait, logs, outputs, usage."""

import hashlib
import os
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pydantic import SecretStr

from yunhe.core import errors
from yunhe.core.lifecycle import ORDER_ENDED, OrderState
from yunhe.sdk.checked import checked
from yunhe.sdk.transport import Transport, escaped
from yunhe.wire.api import (
    BatchAccepted,
    Follow,
    LookList,
    LookRequest,
    LookView,
    OrderBatch,
    OrderDetail,
    OrderPage,
    OrderSpec,
    OrderView,
    OutputList,
    OutputView,
    QuoteView,
    RequirementSpec,
    RunSpec,
    UsageList,
    WhyView,
)
from yunhe.wire.api.orders import MASK

# One long poll; shorter than the idle limit of common proxies.
HOLD_S = 20.0
# While somebody looks on, a changed state should show within a second.
WATCH_HOLD_S = 1.0
# How long a watch, a wait or a followed log outlives a hub that does not answer (a restart, a failover).
OUTAGE_S = 30.0
OUTAGE_PAUSE_S = 1.0


class Patience:
    """Bounds how long failing repeats are tried: for `limit` seconds since the last answer."""

    def __init__(self, limit: float = OUTAGE_S) -> None:
        self._limit = limit
        self._since = time.monotonic()

    def answered(self) -> None:
        self._since = time.monotonic()

    def outage(self, error: errors.Unavailable) -> None:
        """Sleep and return when another try is due; raise `error` when the outage has lasted too long."""
        if time.monotonic() - self._since > self._limit:
            raise error
        time.sleep(OUTAGE_PAUSE_S)


@dataclass(frozen=True, slots=True)
class LogHead:
    """What the headers of a piece of a log say."""

    next_offset: int
    complete: bool
    attempt: int  # 0: never placed yet
    latest_attempt: int
    size: int = 0  # bytes there are now; 0 from a hub that does not say

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> "LogHead":
        """Raises Unavailable when they are not a hub's."""
        try:
            numbers = [int(headers[f"Yunhe-{name}"]) for name in ("Next-Offset", "Attempt", "Latest-Attempt")]
        except (KeyError, ValueError) as error:
            raise errors.Unavailable(
                "the answer is not a hub's log", hint="check the address: `yunhe config`"
            ) from error
        size = headers.get("Yunhe-Size", "")
        complete = headers.get("Yunhe-Complete") == "true"
        return cls(numbers[0], complete, numbers[1], numbers[2], int(size) if size.isdecimal() else 0)


class OrderCalls:
    _transport: Transport

    def quote(self, wanted: RequirementSpec | OrderSpec, *, duration: str = "10m") -> QuoteView:
        """Offers for an order, best first, and for each pool that does not fit what fails.

        A bare requirement is priced for one task of `duration`.
        """
        if isinstance(wanted, RequirementSpec):
            job = RunSpec(command=("true",))
            wanted = checked(OrderSpec, {"run": job, "requirement": wanted, "duration": duration})
        # A price needs no secret, but the engine that can deliver one.
        masked = dict.fromkeys(wanted.run.secrets, SecretStr(MASK))
        wanted = wanted.model_copy(update={"run": wanted.run.model_copy(update={"secrets": masked})})
        return self._transport.post(QuoteView, "/v1/quotes", wanted, again=True)

    def submit(self, order: OrderSpec, idempotency_key: str | None = None) -> OrderView:
        """Place an order. Safe against lost answers: all tries of one call carry the same key.

        Raises OverBudget, InsufficientFunds or QuotaExceeded when it is refused, InvalidInput with the field's
        path when it is wrong, IdempotencyConflict when the key was used for another order.
        """
        key = idempotency_key or new_key()
        return self._transport.post(OrderView, "/v1/orders", order, key=key)

    def submit_batch(self, orders: Sequence[OrderSpec], idempotency_key: str | None = None) -> tuple[str, ...]:
        """Place many orders in one call, all or none; their ids in the given order."""
        key = idempotency_key or new_key()
        batch = checked(OrderBatch, {"orders": tuple(orders)})
        return self._transport.post(BatchAccepted, "/v1/orders:batch", batch, key=key).ids

    def orders(self, state: OrderState | str | None = None, limit: int | None = None) -> Iterator[OrderView]:
        """Own orders, newest first, page by page; at most `limit`."""
        query = {} if state is None else {"state": str(state)}
        return self._transport.rows(OrderPage, lambda page: page.orders, "/v1/orders", query, limit)

    def orders_page(
        self, state: OrderState | str | None = None, text: str = "", *, limit: int = 50, cursor: str | None = None
    ) -> OrderPage:
        """One page of `orders`: those with `text` in their name, or at the begin of their id. `next_cursor` of the
        answer is the `cursor` of the page after it."""
        given = {"state": None if state is None else str(state), "text": text, "cursor": cursor}
        query = {name: value for name, value in given.items() if value}
        return self._transport.get(OrderPage, "/v1/orders", {**query, "limit": limit})

    def look(self, keys: Sequence[str], follow: Follow | None = None) -> tuple[LookView, ...]:
        """What became of own orders, by the Idempotency-Keys of their submits (at most 1,000); unknown ones are left
        out. With `follow`, the hub cancels them when nobody looks any more."""
        body = checked(LookRequest, {"keys": tuple(keys), "follow": follow})
        return self._transport.post(LookList, "/v1/orders:look", body, again=True).orders

    def order(self, order_id: str) -> OrderDetail:
        return self._transport.get(OrderDetail, _path(order_id))

    def why(self, order_id: str) -> WhyView:
        """Why the order is where it is, or per site what keeps it waiting."""
        return self._transport.get(WhyView, _path(order_id, "/why"))

    def cancel(self, order_id: str) -> OrderView:
        """Ask for the end of an order; cancelling one that has ended changes nothing."""
        return self._transport.post(OrderView, _path(order_id, "/cancel"), again=True)

    def usage(self, order_id: str) -> UsageList:
        """Measured use and the charges computed from it, each with its inputs."""
        return self._transport.get(UsageList, _path(order_id, "/usage"))

    def watch(self, order_id: str, timeout: float | None = None) -> Iterator[OrderView]:
        """The order now and after every change until it has ended and is settled, or `timeout` seconds have passed.

        Survives a hub that is away for up to OUTAGE_S seconds. The last view tells whether it is `settled`.
        """
        return self._views(order_id, timeout, WATCH_HOLD_S)

    def wait(self, order_id: str, timeout: float | None = None) -> OrderView:
        """Wait until the order has ended and is settled. Raises TimeoutError after `timeout` seconds."""
        latest: OrderView | None = None
        for view in self._views(order_id, timeout, HOLD_S):
            latest = view
        if latest is None or not done(latest):
            state = "not known" if latest is None else latest.state
            raise TimeoutError(f"order {order_id} is {state} after {timeout} s")
        return latest

    def _views(self, order_id: str, timeout: float | None, hold: float) -> Iterator[OrderView]:
        end = None if timeout is None else time.monotonic() + timeout
        patience = Patience()
        before: OrderView | None = None
        hold_now = 0.0  # the first answer comes at once
        while True:
            if end is not None:
                hold_now = max(0.0, min(hold_now, end - time.monotonic()))
            try:
                query = {"timeout_ms": int(hold_now * 1000)}
                view = self._transport.get(OrderView, _path(order_id, "/wait"), query, hold=hold_now)
            except errors.Unavailable as error:
                patience.outage(error)
            else:
                patience.answered()
                if view != before:
                    yield view
                    before = view
                if done(view):
                    return
            if end is not None and time.monotonic() >= end:
                return
            hold_now = hold

    def log_chunks(
        self, order_id: str, *, task: int = 0, follow: bool = True, attempt: int | None = None
    ) -> Iterator[bytes]:
        """The log of one task as raw bytes: of `attempt`, or of the latest.

        With `follow` until the task is over, going on with the next attempt where one is made; else what is there.
        """
        patience = Patience()
        go_on = follow and attempt is None
        offset = 0
        hold = HOLD_S if follow else 0.0
        while True:
            try:
                head, content = self.log_part(order_id, task=task, attempt=attempt, offset=offset, hold=hold)
            except errors.Unavailable as error:
                if not follow:
                    raise
                patience.outage(error)
                continue
            patience.answered()
            if content:
                yield content
            before, offset, attempt = offset, head.next_offset, head.attempt or attempt
            if head.complete and go_on and head.attempt < head.latest_attempt:
                attempt, offset = head.attempt + 1, 0
            elif head.complete if follow else offset == before:
                # A page may be cut by the hub's limit: what is there is read to its end even without following.
                return

    def log_part(
        self, order_id: str, *, task: int = 0, attempt: int | None = None, offset: int = 0, hold: float = 0.0
    ) -> tuple[LogHead, bytes]:
        """The log of `attempt`, or of the latest, from `offset` on as far as one answer goes, and where to go on.

        The hub waits up to `hold` seconds for a first byte.
        """
        query: dict[str, str | int] = {"task": task, "offset": offset, "follow_ms": int(hold * 1000)}
        if attempt:
            query["attempt"] = attempt
        response = self._transport.fetch(_path(order_id, "/logs"), query, hold=hold)
        return LogHead.of(response.headers), response.content

    def log_piece(self, order_id: str, *, task: int = 0, attempt: int, offset: int) -> bytes:
        """The next bytes of an attempt's log, as many as one answer holds; empty when there are no more yet."""
        query: dict[str, str | int] = {"task": task, "attempt": attempt, "offset": offset}
        return self._transport.fetch(_path(order_id, "/logs"), query).content

    def logs(self, order_id: str, *, task: int = 0, follow: bool = True, attempt: int | None = None) -> Iterator[str]:
        """The log of one task, line by line without line ends; bytes that are not UTF-8 become U+FFFD."""
        rest = b""
        for chunk in self.log_chunks(order_id, task=task, follow=follow, attempt=attempt):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield line.decode("utf-8", errors="replace")
        if rest:
            yield rest.decode("utf-8", errors="replace")

    def outputs(self, order_id: str) -> tuple[OutputView, ...]:
        """Files that the order's tasks left, with size and SHA-256."""
        return self._transport.get(OutputList, _path(order_id, "/outputs")).outputs

    def download(self, order_id: str, path: str, to: Path | None = None, *, lease_id: str | None = None) -> Path:
        """Fetch one output file into `to` (default: its own name, here), checked against its SHA-256.

        Raises NotFound when there is none, InvalidInput when several tasks have one and `lease_id` does not say
        which, Conflict when `to` exists, Unavailable when what came is not what the site had stored.
        """
        found = [o for o in self.outputs(order_id) if o.path == path and lease_id in (None, o.lease_id)]
        if not found:
            raise errors.NotFound(f"order {order_id} has no output {path!r}", hint=f"yunhe outputs list {order_id}")
        if len(found) > 1:
            raise errors.InvalidInput(f"{len(found)} tasks have an output {path!r}: name one", field="lease_id")
        target = to or Path(PurePosixPath(path).name)
        self.download_output(order_id, found[0], target)
        return target

    def download_output(self, order_id: str, output: OutputView, target: Path, *, replace: bool = False) -> None:
        """Fetch `output` into `target`; the file appears whole or not at all. Raises as `download`."""
        if target.exists() and not replace:
            raise errors.Conflict(f"{target} exists already", hint="choose another folder, or replace it (--force)")
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            digest = hashlib.sha256()
            with os.fdopen(descriptor, "wb") as file, self.output_stream(order_id, output) as chunks:
                for chunk in chunks:
                    digest.update(chunk)
                    file.write(chunk)
            if digest.hexdigest() != output.sha256:
                raise errors.Unavailable(f"{output.path}: what came is not what the site stored", hint="try again")
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise

    @contextmanager
    def output_stream(self, order_id: str, output: OutputView) -> Iterator[Iterator[bytes]]:
        """The bytes of `output` as they come, not checked against its SHA-256; what is longer than it was said to be is
        cut. Raises NotFound, Unavailable."""
        query = {"lease_id": output.lease_id, "path": output.path}
        with self._transport.stream(_path(order_id, "/outputs/content"), query) as chunks:
            yield _at_most(chunks, output.size_bytes)


def _at_most(chunks: Iterator[bytes], size: int) -> Iterator[bytes]:
    """What is endless would fill a disk."""
    left = size
    for chunk in chunks:
        yield chunk[:left]
        left -= len(chunk)
        if left < 0:
            return


def done(view: OrderView) -> bool:
    """Whether nothing will change any more: ended, and the bill is final."""
    return view.state in ORDER_ENDED and view.settled


def new_key() -> str:
    """A key that makes repeats of one submit the same order."""
    return uuid.uuid4().hex


def _path(order_id: str, rest: str = "") -> str:
    return f"/v1/orders/{escaped(order_id)}{rest}"
