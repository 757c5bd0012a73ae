"""What is out of range, for every field: the bounds are those of the structs, so that a new field is tried as soon as there is one."""

from __future__ import annotations

import enum
import json
import typing
from typing import Any

import msgspec
import pytest
from spec_examples import Place, case_id, full, json_path, places, put, refusal
from test_plan_fields import field_at, without_user_namespace

from pyruntime.spec import Spec
from pyruntime.spec.explain import _bare

UINT64_MAX = 2**64 - 1
# text that nothing but the caller reads
ANY_TEXT = {("Spec", "annotations"), ("Seccomp", "listener_metadata")}


def configurations() -> dict[str, dict[str, Any]]:
    """Together they have every field that has a value (test_spec_fields.py)."""
    config = full()
    config["process"]["scheduler"] = {"policy": "SCHED_RR", "priority": 1}
    return {"full": full(), "real time": config, "no user namespace": without_user_namespace()}


def declared_at(place: Place) -> Any:
    """What stands there by the structs, with its bounds."""
    declared: Any = Spec
    for step in place:
        bare = _bare(declared)
        if isinstance(bare, type) and issubclass(bare, msgspec.Struct):
            names = dict(zip(bare.__struct_encode_fields__, bare.__struct_fields__, strict=True))
            declared = typing.get_type_hints(bare, include_extras=True)[names[str(step)]]
        else:
            arguments = typing.get_args(bare)
            declared = arguments[0] if typing.get_origin(bare) is tuple else arguments[1]
    return declared


def bounds_of(declared: Any) -> tuple[int, int]:
    """Of an integer; where no upper one is stated it is uint64's, which msgspec cannot state."""
    if typing.get_origin(declared) is not typing.Annotated:
        declared = next(part for part in typing.get_args(declared) if typing.get_origin(part) is typing.Annotated)
    (meta,) = (part for part in typing.get_args(declared)[1:] if isinstance(part, msgspec.Meta))
    assert isinstance(meta.ge, int)
    return meta.ge, UINT64_MAX if meta.le is None else int(meta.le)


def out_of_range(place: Place, value: object) -> list[object]:
    """Nothing for what has no range: true and false, objects, lists."""
    if isinstance(value, bool):
        return []
    if isinstance(value, int):
        least, most = bounds_of(declared_at(place))
        return [least - 1, most + 1]
    if isinstance(value, str):
        if isinstance(bare := _bare(declared_at(place)), type) and issubclass(bare, enum.Enum):
            return [f"{value}_X", value.lower() if value.lower() != value else value.upper()]
        return [] if field_at(place) in ANY_TEXT else [f"{value}\0", "\0"]
    return []


CASES = {(place, json.dumps(wrong)): (name, place, wrong) for name, config in configurations().items()
         for place, value in places(config) for wrong in out_of_range(place, value)}


@pytest.mark.parametrize(("name", "place", "wrong"), CASES.values(), ids=case_id)
def test_out_of_range(name: str, place: Place, wrong: object) -> None:
    error = refusal(put(configurations()[name], place, wrong))
    assert error.json_path == json_path(place), error


KEYS = [(place, value) for place, value in places(full()) if place[-1] in ("netDevices", "rdma", "sysctl", "timeOffsets", "unified")]


@pytest.mark.parametrize(("place", "value"), KEYS, ids=case_id)
def test_a_key_that_is_none(place: Place, value: Any) -> None:
    (key, below), *_ = value.items()
    for wrong in (f"{key}\0", ""):
        error = refusal(put(full(), (*place, wrong), below))
        assert error.json_path == json_path((*place, wrong)).replace("\0", "\\u0000"), error


def test_the_cases_are_of_every_field_that_has_a_range() -> None:
    tried = {field_at(place) for _, place, _ in CASES.values()}
    every = {field_at(place) for config in configurations().values() for place, value in places(config)
             if isinstance(value, int | str) and not isinstance(value, bool)}
    assert every - tried == ANY_TEXT
    assert len(every) > 100
