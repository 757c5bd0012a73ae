"""The loader against the specification's schema: what one refuses, the other does, but for differences that are told here."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from spec_examples import Place, full, json_path, places, small

from conformance.schemas import NEWER, errors, validator
from pyruntime.errors import InvalidBundleError
from pyruntime.spec import load_spec
from pyruntime.spec.default_config import default_config

REMOVED = object()
VALUES = (None, True, "x", "", -1, 0, 2**64, 1.5, [], {}, ["x"], REMOVED)

# what the loader lets pass and the schema does not
WIDER = {
    "null": "of Go's encoders, which write it for what is absent; a Go runtime reads it as absent",
    "empty": "the same for strings that are left out when they are empty",
    "pids.limit": "required by the snapshot, optional since 1.3",
}
# what the loader refuses beyond the schema: its words, and what says so
STRICTER = {
    r"is not a version of the form": "config.md: ociVersion is a SemVer 2.0.0 version",
    r"is required, but missing or empty": "config.md, config-linux.md: REQUIRED",
    r"is required for a bind mount": "mount(8): there is nothing to bind",
    r"is required with .*Mappings": "config.md: both or none",
    r"size: is 0, but must be at least 1": "user_namespaces(7): EINVAL",
    r"at least one entry is required": "config.md: args has one entry at least",
    r"is not of the form NAME=value": "config.md: env as environ(7) has it",
    r"is not an absolute path": "config.md, config-linux.md: absolute",
    r"oomScoreAdj: is \d+, but must be at most 1000": "proc(5): from -1000 to 1000",
    r"timeout: is \d+, but must be at most": "config.md: seconds, as Go's int",
    r"needs a user namespace": "config-linux.md: mappings are of the container's own user namespace",
    r"is required for a new user namespace": "user_namespaces(7): without mappings there is no id to have",
    r"(major|minor): is -1, but must be at least 0": "config-linux.md: of a device, not of a rule",
    r"is required with type": "config-linux.md: unless the type is p",
    r"must be one of a, c, b": "config-linux.md: types of a rule",
    r"has letters other than r, w, m": "config-linux.md: access",
    r"is not a list of numbers and ranges": "cgroups: the format of lists",
    r"idle: is -1": "config-linux.md: 0 or 1",
    r"needs hcaHandles or hcaObjects": "config-linux.md: one at least",
    r"listenerMetadata: needs a listenerPath": "config-linux.md: an error if there is no path",
    r"names\[0\]: must not be empty": "there is no such call",
}


def base() -> dict[str, Any]:
    """Every member that the snapshot knows, and some of what is newer; of what is there several times one."""
    config = full()
    config["hooks"] = {"poststart": config["hooks"]["poststart"]}
    linux = config["linux"]
    del linux["timeOffsets"]
    linux["namespaces"] = [namespace for namespace in linux["namespaces"] if namespace["type"] != "time"]
    for name in ("throttleWriteBpsDevice", "throttleReadIOPSDevice", "throttleWriteIOPSDevice"):
        del linux["resources"]["blockIO"][name]
    for name in ("effective", "inheritable", "permitted"):
        del config["process"]["capabilities"][name]
    config["process"]["capabilities"]["ambient"] = []
    return config


def part(config: dict[str, Any], place: Place) -> dict[str, Any]:
    """A copy without what has nothing to do with the place: both sides look at the whole of it."""
    needed = ("ociVersion", "root", str(place[0]))
    linux = ("namespaces", "uidMappings", "gidMappings", str(place[1]) if place[0] == "linux" and len(place) > 1 else "")
    found = {name: value for name, value in config.items() if name in needed}
    found["linux"] = {name: value for name, value in config["linux"].items() if name in linux or len(place) == 1}
    return copy.deepcopy(found)


def variants() -> Iterator[tuple[Place, Any, dict[str, Any]]]:
    """A place, what is put there, and the configuration."""
    config = base()
    for place, _ in places(config):
        for value in VALUES:
            changed = part(config, place)
            at: Any = changed
            for step in place[:-1]:
                at = at[step]
            if value is not REMOVED:
                at[place[-1]] = value
            elif isinstance(at, dict):
                del at[place[-1]]
            else:
                continue
            yield place, value, changed


def refusal(config: dict[str, Any]) -> str | None:
    """The loader's, without the name of a file."""
    try:
        load_spec(json.dumps(config).encode())
    except InvalidBundleError as error:
        return str(error)
    return None


def is_newer(place: Place) -> bool:
    return any(place[:len(prefix)] == prefix for prefix in NEWER)


def why_wider(place: Place, value: Any) -> str:
    if value is None:
        return "null"
    if value == "" and place[-1] in ("memBwSchema", "rootfsPropagation"):
        return "empty"
    if place[:3] == ("linux", "resources", "pids") and value in ({}, REMOVED):
        return "pids.limit"
    return f"{json_path(place)} = {value!r}"


@pytest.fixture(scope="module")
def differences() -> tuple[set[str], set[str], int]:
    """Kinds of what the loader takes and the schema does not, of the reverse, and how many variants agree."""
    schema = validator("config")
    wider, stricter, agreeing = set(), set(), 0
    for place, value, config in variants():
        is_valid, refused = schema.is_valid(config), refusal(config)
        if is_valid == (refused is None):
            agreeing += 1
        elif refused is None:
            wider.add(why_wider(place, value))
        elif not is_newer(place):
            stricter.add(next((reason for reason in STRICTER if re.search(reason, refused)), refused))
    return wider, stricter, agreeing


def test_what_the_schema_refuses_is_refused(differences: tuple[set[str], set[str], int]) -> None:
    wider, _, agreeing = differences
    assert wider == set(WIDER)
    assert agreeing > 1200


def test_what_the_schema_lets_pass_is_accepted_but_for_what_is_told(differences: tuple[set[str], set[str], int]) -> None:
    assert differences[1] == set(STRICTER)


def test_what_is_newer_is_unknown_to_the_schema_alone() -> None:
    """Members that the schema lets be anything, and the loader does not."""
    schema = validator("config")
    for place in NEWER:
        config = full()
        config["linux"]["namespaces"] = [namespace for namespace in config["linux"]["namespaces"] if namespace["type"] != "time"]
        at: Any = config
        for step in place[:-1]:
            at = at[step]
        at[place[-1]] = 1.5
        assert schema.is_valid(config), place
        assert refusal(config) is not None, place


@pytest.mark.parametrize("config", [default_config(), small(), base()], ids=["spec", "runc's", "full"])
def test_good_configurations(config: dict[str, Any]) -> None:
    """What `pyruntime spec` writes among them."""
    assert errors("config", config) == []
    assert refusal(config) is None
