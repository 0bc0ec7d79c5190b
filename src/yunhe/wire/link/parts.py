"""What messages of the link have in common: bounds, and the types of their fields."""

from typing import Annotated, Literal

from pydantic import Field

from yunhe.wire.message import NO_NUL

MAX_SYNC_BYTES = 4 * 1024 * 1024
MAX_REPORTS_PER_SYNC = 1_000
MAX_INSTRUCTIONS_PER_ANSWER = 500
MAX_CHUNK_BYTES = 1024 * 1024
MAX_MOVED_FILES = 200  # of one lease and phase
MAX_MOVED_PATH = 400
CHECKPOINT_PATH = "yunhe-checkpoint.tar"  # among an attempt's outputs
LINK_VERSION: Literal[1] = 1

Id = Annotated[str, Field(min_length=1, max_length=80, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]*$")]
Count = Annotated[int, Field(ge=0, le=2**53)]
Small = Annotated[int, Field(ge=0, le=2**31 - 1)]  # numbers of epochs of a lease, and of records of one
OperatorName = Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[a-z0-9][a-z0-9_.-]*$")]
Version = Annotated[str, Field(max_length=80, pattern=NO_NUL)]
Challenge = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
