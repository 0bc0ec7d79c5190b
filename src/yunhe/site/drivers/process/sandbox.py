"""The bubblewrap command line of a job, and the words in front of the job's own command inside it."""

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ENV_INSIDE = "/run/yunhe/env"
JOB_INSIDE = "/job"
SECRETS_INSIDE = "/run/secrets"
GANG = Path(__file__).parents[2] / "supervisor" / "gang.py"
# Without these programs of Debian and others do not find their libraries or the time zone, and Debian's Python meets
# links without an end: a part of its library lies in /etc/python3.N.
ETC = ("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime", *map(str, sorted(Path("/etc").glob("python3*"))))

# What names and certificates need, for jobs that may open connections.
ETC_NETWORK = (
    *("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/gai.conf", "/etc/services", "/etc/protocols"),
    *("/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/ca-certificates", "/etc/pki/tls/certs", "/etc/pki/ca-trust"),
)


@dataclass(frozen=True, slots=True)
class Wants:
    """What a job needs of its sandbox."""

    tmp_bytes: int
    network: bool = False
    secrets: bool = False


def prefixes(extra: Sequence[Path] = ()) -> tuple[Path, ...]:
    """Folders outside /usr that jobs can read: the interpreter with its packages, and what the site adds."""
    wanted = [Path(sys.prefix), Path(sys.base_prefix), *extra]
    found: list[Path] = []
    for path in [spelled for one in wanted for spelled in (one.absolute(), one.resolve())]:
        if path.is_dir() and not path.is_relative_to("/usr") and path not in found:
            found.append(path)
    return tuple(found)


def argv(bwrap: str, lease_dir: Path, expose: Sequence[Path], hide: Path, wants: Wants) -> list[str]:
    """Everything up to bubblewrap's `--`. `hide` (the agent's own folder) is covered where `expose` would show it."""
    words = [bwrap, "--die-with-parent", "--unshare-pid", "--unshare-ipc", "--unshare-uts"]
    words += [] if wants.network else ["--unshare-net"]
    words += ["--hostname", "job", "--cap-drop", "ALL"]
    if os.geteuid() == 0:  # `inside` gives these up together with the user id
        words += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_SETPCAP"]
        words += ["--cap-add", "CAP_CHOWN"] if wants.secrets else []
    else:
        words += ["--unshare-user", "--uid", "1000", "--gid", "1000"]
    words += ["--ro-bind", "/usr", "/usr"]
    for name in ("/bin", "/sbin", "/lib", "/lib32", "/lib64"):
        if os.path.islink(name):
            words += ["--symlink", os.readlink(name), name]
        elif os.path.isdir(name):
            words += ["--ro-bind", name, name]
    shown = (*ETC, *(ETC_NETWORK if wants.network else ()))
    words += _parents([Path(name) for name in shown])
    for name in shown:
        words += ["--ro-bind-try", name, name]
    # Before the folders that jobs may read: one of them may lie under /tmp.
    words += ["--perms", "1777", "--size", str(wants.tmp_bytes), "--tmpfs", "/tmp"]
    words += _parents([*expose, Path(ENV_INSIDE)])
    for path in expose:
        words += ["--ro-bind", str(path), str(path)]
    if any(hide.is_relative_to(path) for path in (*expose, Path("/usr"))):
        words += ["--tmpfs", str(hide)]
    words += ["--proc", "/proc", "--dev", "/dev"]
    # Semaphores and shared memory of the job's own processes; as much as /tmp, both are memory.
    words += ["--perms", "1777", "--size", str(wants.tmp_bytes), "--tmpfs", "/dev/shm"]
    words += ["--dir", SECRETS_INSIDE] if wants.secrets else []
    words += ["--ro-bind", str(lease_dir / "env"), ENV_INSIDE]
    words += ["--bind", str(lease_dir / "job"), JOB_INSIDE, "--chdir", JOB_INSIDE]
    # These two are memory as well, of no size of their own: what a job wrote there would be nobody's.
    return [*words, "--remount-ro", "/dev", "--remount-ro", "/"]


def _parents(paths: Sequence[Path]) -> list[str]:
    """Folders above mounts, readable for the job's user: made on the way they would be closed to it."""
    wanted = {parent for path in paths for parent in path.parents if parent not in (Path("/"), Path("/tmp"))}
    return [word for path in sorted(wanted) for word in ("--perms", "0755", "--dir", str(path))]


def inside(command: Sequence[str], uid: int | None, pids_limit: int, secrets: str = "") -> list[str]:
    """The job's command with what goes before it in the sandbox: real user id dropped, environment read.

    The environment comes from a file: in the arguments every user of the host could read it, and in
    bubblewrap's own environment an LD_PRELOAD of the job would run with the agent's rights. `secrets`: a folder that
    bubblewrap has filled as its own user, to be the job's.
    """
    if uid is not None:
        own = ["/bin/sh", "-ec", 'chown -R "$1" "$2"; shift 2; exec "$@"', "sh", f"{uid}:{uid}", secrets]
        words = [
            *(own if secrets else ()),
            "setpriv",
            f"--reuid={uid}",
            f"--regid={uid}",
            "--clear-groups",
            "--bounding-set=-all",
            "--inh-caps=-all",
        ]
    else:
        words = ["prlimit", f"--nproc={pids_limit}"]
    return [*words, "--", "/bin/sh", "-c", f'. {ENV_INSIDE}; exec "$@"', "sh", *command]


def env_file(env: Mapping[str, str]) -> str:
    """As a shell reads it. Names are identifiers (the API checks them)."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in env.items())


def gang(command: Sequence[str], slots: int, python: str) -> list[str]:
    """The command of a whole lease: with several slots the gang runner in front, as text: no path leads to it."""
    return list(command) if slots == 1 else [python, "-I", "-S", "-c", GANG.read_text(), str(slots), "--", *command]
