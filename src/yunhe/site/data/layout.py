"""The folder of a transfer on its way; both the agent and the transfer's own process look into it."""

BYTES = "bytes"  # the file's first bytes
STATE = "state"  # what they are of: the source's name of its content, and the size; written before the first byte
UPLOAD = "upload"  # which upload a store has of an output
LOCK = "lock"  # held while a process writes here
