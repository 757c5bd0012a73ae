"""What every struct of the configuration shares: its base, and the ranges of its integers.

The modules of structs do without `from __future__ import annotations`: msgspec would have to evaluate every
annotation when they are imported.
"""

from typing import Annotated

from msgspec import Meta, Struct

Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
UInt16 = Annotated[int, Meta(ge=0, le=2**16 - 1)]
UInt32 = Annotated[int, Meta(ge=0, le=2**32 - 1)]
# msgspec takes no bound above int64, so `checks.integers` looks at the upper end.
UInt64 = Annotated[int, Meta(ge=0)]

# 2**32 - 1 is (uid_t) -1, which setresuid(2) and chown(2) read as "leave as it is": a process that
# asked for it would stay root.
UserId = Annotated[int, Meta(ge=0, le=2**32 - 2)]

# Device numbers have 12 and 20 bits (include/linux/kdev_t.h); a larger one would be cut to another device.
Major = Annotated[int, Meta(ge=0, le=2**12 - 1)]
Minor = Annotated[int, Meta(ge=0, le=2**20 - 1)]

# -1 is "no limit".
Limit = Annotated[int, Meta(ge=-1, le=2**63 - 1)]

Text = Annotated[str, Meta(min_length=1)]


# Fields whose keys are the user's, so that no value there stands for an absent field.
MAPS = frozenset(("annotations", "netDevices", "rdma", "sysctl", "timeOffsets", "unified"))


class Section(Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """A JSON object of config.json; a field that is None, (), {} or a default was absent."""
