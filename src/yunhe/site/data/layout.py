"""The folder of a download on its way; both the agent and the transfer's own process look into it."""

BYTES = "bytes"  # the file's first bytes
STATE = "state"  # what they are of: the source's name of its content, and the size; written before the first byte
LOCK = "lock"  # held while a process writes here
