"""Starts the equal processes of a gang, in the sandbox and under the limits of their job. Standard library only.

    gang.py SIZE -- COMMAND...

Each gets YUNHE_RANK (0..SIZE-1) and YUNHE_SIZE. They share the job's directory and the loopback network. The
first one that fails ends all; the exit code is that of the first that failed, or 0.
"""

import os
import signal
import sys

TOLD = (signal.SIGTERM, signal.SIGUSR1)


def spawn(rank: int, command: list[str]) -> int:
    pid = os.fork()
    if pid:
        return pid
    for number in TOLD:
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(command[0], command, {**os.environ, "YUNHE_RANK": str(rank)})
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        sys.stderr.flush()
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)


def main() -> int:
    size, command = int(sys.argv[1]), sys.argv[3:]
    # Whoever stops the job signals every process of it; this one stays to collect the others.
    for number in TOLD:
        signal.signal(number, lambda *_: None)
    left = {spawn(rank, command) for rank in range(size)}
    result = 0
    while left:
        pid, status = os.wait()
        left.discard(pid)
        code = os.waitstatus_to_exitcode(status)
        if code and not result:
            result = code if code > 0 else 128 - code
            for other in left:
                os.kill(other, signal.SIGKILL)
    return result


if __name__ == "__main__":
    sys.exit(main())
