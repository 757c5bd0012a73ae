"""The end of the range of uint64, which msgspec cannot state."""

from __future__ import annotations

from pyruntime.spec.refusal import Refused

UINT64_MAX = 2**64 - 1


def check_uint64(value: int | None, json_path: str) -> None:
    if value is not None and value > UINT64_MAX:
        raise Refused(json_path, f"is {value}, but must be at most {UINT64_MAX}")
