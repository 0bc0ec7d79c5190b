"""Accounts of the centre for tenants: the members of a group, one for each tenant, for good.

`tenants.json` in the data directory says who has which, {tenant: account}; the centre may write lines of its own. An
account is never given to a second tenant: nobody knows what the first one left with it.
"""

import grp
import json
import os
import pwd
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from yunhe.site.drivers.contract import SpawnFailed
from yunhe.site.drivers.lease_dir import replace_text
from yunhe.site.settings import SlurmSettings
from yunhe.site.supervisor.tenant import CLEAN

TRY_S = 10.0
ROOT = 0
WAY = 'cd -- "$1" && id -u'


class Account(NamedTuple):
    """`become`: command in front of another that makes it run as this account."""

    name: str
    gid: int
    become: tuple[str, ...]


class Tenants:
    """Everything here may wait for the disk, for the centre's directory of users, and for `command`."""

    def __init__(self, group: str, command: Sequence[str], leases: Path, kept: Path) -> None:
        self._group, self._command, self._leases, self._kept = group, tuple(command), leases, kept
        self._turn = threading.Lock()
        self._tried: dict[str, int] = {}  # account -> its number, when it was last seen to work

    @classmethod
    def of(cls, slurm: SlurmSettings, leases: Path, kept: Path) -> "Tenants | None":
        """None: the site has no such accounts."""
        return cls(slurm.tenant_group, slurm.tenant_command, leases, kept) if slurm.tenant_group else None

    @property
    def text(self) -> str:
        return f"an account of group {self._group} per tenant"

    def open_way(self) -> None:
        """Accounts may go through to the folder of their lease, and list nothing. Raises OSError."""
        self._leases.chmod(0o711)
        above = self._leases.parent
        above.chmod(above.stat().st_mode & 0o777 | 0o111)

    def account(self, tenant: str) -> Account:
        """The tenant's own; the first time one that nobody has had. Raises SpawnFailed."""
        with self._turn:
            members, names = self._members(), self._names()
            name = names.get(tenant) or next((name for name in members if name not in names.values()), None)
            if name is None:
                raise SpawnFailed(f"each of the {len(members)} accounts of group {self._group} has another tenant")
            if name not in members or list(names.values()).count(name) > 1:
                raise SpawnFailed(f"account {name} is not in group {self._group}, or has two tenants: {self._kept}")
            account = self._checked(name, members)
            if tenant not in names:
                replace_text(self._kept, json.dumps({**names, tenant: name}, indent=1))
            return account

    def try_one(self) -> str:
        """What is wrong with the first account; empty: nothing."""
        try:
            members = self._members()
            self._checked(members[0], members)
        except (SpawnFailed, IndexError) as error:
            return str(error)
        return ""

    def _members(self) -> list[str]:
        try:
            return sorted(grp.getgrnam(self._group).gr_mem)
        except KeyError as error:
            raise SpawnFailed(f"this host has no group {self._group}") from error

    def _names(self) -> dict[str, str]:
        try:
            found: dict[str, str] = json.loads(self._kept.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise SpawnFailed(f"{self._kept} is not JSON: {error}") from error
        return found

    def _checked(self, name: str, members: Sequence[str]) -> Account:
        """Raises SpawnFailed for an account with which a tenant would be root, the agent, or another tenant."""
        try:
            entry = pwd.getpwnam(name)
        except KeyError as error:
            raise SpawnFailed(f"this host has no account {name}") from error
        if entry.pw_uid in (ROOT, os.geteuid()) or entry.pw_gid in (ROOT, os.getegid()):
            raise SpawnFailed(f"account {name} is root, or the agent's own user or group")
        for other in members:
            if other != name and _shares(entry, other):
                raise SpawnFailed(f"accounts {name} and {other} have the same number or the same primary group")
        if os.geteuid() != ROOT and entry.pw_gid not in os.getgroups():
            raise SpawnFailed(f"the agent's user is not in the group of account {name}; it counts from the next start")
        become = tuple(word.replace("{user}", name) for word in self._command)
        if self._tried.get(name) != entry.pw_uid:
            self._try(name, entry.pw_uid, become)
            self._tried[name] = entry.pw_uid
        return Account(name, entry.pw_gid, become)

    def _try(self, name: str, uid: int, become: Sequence[str]) -> None:
        words = [*become, "sh", "-c", WAY, "sh", str(self._leases)]
        try:
            done = subprocess.run(
                words, env=CLEAN, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=TRY_S
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SpawnFailed(f"nothing can be run as account {name}: {error}") from error
        if done.stdout.strip() != str(uid):
            raise SpawnFailed(f"nothing can be run as account {name}: {(done.stderr or done.stdout).strip()[-200:]}")


def _shares(entry: pwd.struct_passwd, name: str) -> bool:
    try:
        other = pwd.getpwnam(name)
    except KeyError:
        return False
    return entry.pw_uid == other.pw_uid or entry.pw_gid == other.pw_gid
