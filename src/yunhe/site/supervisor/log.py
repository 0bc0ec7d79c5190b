"""The job's log."""

import os

CHUNK = 1 << 18
LOG_NOTE = b"\n[yunhe: the log is capped at %d bytes; the rest was dropped]\n"


class Log:
    """The job's output: kept up to the cap, then thrown away without being copied."""

    def __init__(self, pipe: int, cap: int) -> None:
        self.pipe = pipe
        self.room = max(0, cap - len(LOG_NOTE) - 20)
        self.cap = cap
        self.file = os.open("log", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        self.null = os.open(os.devnull, os.O_WRONLY)
        self.note = ""
        self.dropping = False
        os.set_blocking(pipe, False)

    def pump(self, rounds: int) -> bool:
        """Take what is there, at most `rounds` chunks; False at the end of the output."""
        for _ in range(rounds):
            try:
                if self.dropping:
                    if not os.splice(self.pipe, self.null, 1 << 20):
                        return False
                    continue
                data = os.read(self.pipe, min(CHUNK, self.room + 1))
            except BlockingIOError:
                return True
            if not data:
                return False
            self.keep(data)
        return True

    def keep(self, data: bytes) -> None:
        if len(data) > self.room:
            data, self.dropping = data[: self.room] + LOG_NOTE % self.cap, True
            self.note = "log capped"
        try:
            while data:
                done = os.write(self.file, data)
                self.room -= done
                data = data[done:]
        except OSError as error:
            self.note = f"log cut: {error.strerror}"
            self.dropping = True
