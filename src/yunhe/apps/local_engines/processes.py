"""What the starters of private engines need of the host."""

import os
import signal
import socket
from pathlib import Path


def free_ports(count: int) -> list[int]:
    """Of 127.0.0.1; nobody keeps them until they are used."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def alive(number: int) -> bool:
    """A process that has ended and waits for its parent to notice is none."""
    return _stat(number)[:1] not in ([], ["Z"], ["X"])


def parent(number: int) -> int:
    """0 for a process that has ended."""
    return int((_stat(number)[1:2] or ["0"])[0])


def _stat(number: int) -> list[str]:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def marked(variable: str, value: str) -> list[int]:
    """Processes that have `variable` in their environment, so that they belong to one engine."""
    mark, found = f"{variable}={value}".encode(), []
    for number in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        try:
            if number != os.getpid() and mark in Path(f"/proc/{number}/environ").read_bytes().split(b"\0"):
                found.append(number)
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue
    return found


def kill(number: int, what: signal.Signals) -> None:
    try:
        os.kill(number, what)
    except ProcessLookupError:
        return
