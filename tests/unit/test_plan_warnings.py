"""What is not as the configuration says, and told: the specification wants it accepted, or engines cannot do without."""

from __future__ import annotations

import json
from typing import Any

import pytest
from test_plan import V2, plan_of
from test_plan_mounts import USER

from pyruntime.host import Host, parse_capabilities
from pyruntime.plan import flags
from pyruntime.plan import operations as op
from pyruntime.plan.device_rules import Rule, device_rules
from pyruntime.plan.warnings import process_warnings, warnings_of
from pyruntime.spec import decode_process, decode_resources, load_spec
from pyruntime.testing.bundles import default_config, merge

ALL = (1 << len(flags.CAPABILITIES)) - 1
KILL = 1 << flags.CAPABILITIES["CAP_KILL"]
SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")


def warnings(**changes: Any) -> tuple[str, ...]:
    config = default_config()
    del config["process"]["capabilities"]
    merge(config, changes)
    return warnings_of(load_spec(json.dumps(config).encode()), V2)


def of_capabilities(held: int = ALL, allowed: int = ALL, in_user_namespace: bool = False, **sets: str) -> tuple[str, ...]:
    """`sets`: letters of the short names, k CAP_KILL, c CAP_CHOWN, x one that nobody knows."""
    names = {"k": "CAP_KILL", "c": "CAP_CHOWN", "x": "CAP_NOT_YET"}
    capabilities = {name: [names[letter] for letter in letters] for name, letters in sets.items()}
    process = decode_process({"args": ["sh"], "cwd": "/", "capabilities": capabilities})
    return process_warnings(process, Host((6, 1), (), held, bounding_capabilities=allowed), in_user_namespace)


LACKING = "capabilities that the runtime does not hold itself are left out: CAP_CHOWN"


@pytest.mark.conformance(15)
@pytest.mark.parametrize(("sets", "expected"), [
    ({}, ()),
    (dict.fromkeys(SETS, "kc"), ()),
    ({"bounding": "kc"}, ()),
    ({"bounding": "kx"}, ("unknown capabilities are left out: CAP_NOT_YET",)),
    ({"ambient": "x"}, ("unknown capabilities are left out: CAP_NOT_YET",)),
    ({"effective": "kc", "permitted": "k"}, ("effective capabilities that are not permitted are left out: CAP_CHOWN",)),
    ({"inheritable": "kc", "bounding": "c"},
     ("inheritable capabilities that are not in the bounding set are left out: CAP_KILL",)),
    ({"ambient": "kc", "permitted": "kc", "inheritable": "k", "bounding": "kc"},
     ("can't raise ambient capability CAP_CHOWN: not permitted and inheritable",)),
    ({"ambient": "k", "inheritable": "k", "bounding": "k"},
     ("can't raise ambient capability CAP_KILL: not permitted and inheritable",)),
    ({"ambient": "kc", "inheritable": "k", "bounding": "k"},
     ("can't raise ambient capabilities CAP_CHOWN, CAP_KILL: not permitted and inheritable",)),
])
def test_capabilities_that_cannot_be_granted(sets: dict[str, str], expected: tuple[str, ...]) -> None:
    assert of_capabilities(**sets) == expected


@pytest.mark.conformance(15)
def test_capabilities_that_the_caller_lacks() -> None:
    everywhere = dict.fromkeys(SETS, "kc")
    assert of_capabilities(KILL, **everywhere) == (LACKING,)
    assert of_capabilities(KILL, KILL, **everywhere) == (LACKING,)
    # the bounding set is not of what is held
    assert of_capabilities(KILL, bounding="kc") == ()
    assert of_capabilities(0, KILL, bounding="kc") == (LACKING,)
    for name in SETS[1:]:
        assert LACKING in of_capabilities(KILL, bounding="kc", **{name: "c"})
    # whoever makes a user namespace or enters one holds everything there
    assert of_capabilities(0, 0, in_user_namespace=True, **everywhere) == ()


def test_a_process_without_capabilities() -> None:
    assert process_warnings(decode_process({"args": ["sh"], "cwd": "/"}), V2, False) == ()


def test_what_cannot_be_inherited_is_not_asked_of_the_kernel() -> None:
    """Which refuses it, and so the process."""
    sets = {"bounding": ["CAP_KILL"], "inheritable": ["CAP_KILL", "CAP_CHOWN"], "permitted": ["CAP_CHOWN"]}
    plan = plan_of(V2, process={"capabilities": {**dict.fromkeys(SETS, []), **sets}})
    (found,) = [o for o in plan.init if isinstance(o, op.SetCapabilities)]
    assert (found.permitted, found.inheritable) == (1 << flags.CAPABILITIES["CAP_CHOWN"], KILL)


def test_mappings_beside_a_joined_user_namespace() -> None:
    joined = {"namespaces": [{"type": "mount"}, {"type": "user", "path": "/proc/7/ns/user"}], "uidMappings": None, "gidMappings": None}
    mappings = {name: USER[name] for name in ("uidMappings", "gidMappings")}
    assert warnings(linux=joined, hostname=None) == ()
    (warning,) = warnings(linux={**joined, **mappings}, hostname=None)
    assert warning == ("not applied: uidMappings and gidMappings, since the user namespace '/proc/7/ns/user', which is joined, "
                       "has its own")
    # the plan is the same
    assert plan_of(V2, linux={**joined, **mappings}, hostname=None) == plan_of(V2, linux=joined, hostname=None)
    assert warnings(linux=USER) == ()


def test_letters_of_access_that_do_not_exist_deny_everything() -> None:
    rules = [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "r"},
             {"allow": False, "type": "c", "major": 1, "minor": 11, "access": "ra"}]
    assert warnings(linux={"resources": {"devices": rules}}) == (
        "linux.resources.devices[2]: all access is denied, since 'ra' has letters other than r, w, m",)
    found = device_rules(decode_resources({"devices": rules}).devices)
    assert found[:2] == (Rule(True, "c", 1, 11, "r"), Rule(False, "c", 1, 11, "rwm"))


@pytest.mark.parametrize("stated", [{"fileMode": 0o666}, {"uid": 0}, {"gid": 5}])
def test_devices_that_keep_what_the_host_has(stated: dict[str, int]) -> None:
    fuse = {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}
    assert warnings(linux={**USER, "devices": [fuse]}) == ()
    (warning,) = warnings(linux={**USER, "devices": [{**fuse, **stated}, {**fuse, "path": "/x"}]})
    assert warning == f"not applied: {next(iter(stated))} of '/dev/fuse', since the devices of a user namespace are the host's"
    # where nodes are made they are as stated
    assert warnings(linux={"devices": [{**fuse, **stated}]}) == ()
    assert warnings(linux={**USER, "devices": [{"path": "/run/pipe", "type": "p", **stated}]}) == ()


def test_the_sets_of_a_process() -> None:
    assert parse_capabilities("Name:\tx\nCapInh:\t1\nCapPrm:\t000001ffffffffff\nCapEff:\t2\nCapBnd:\t00000000a80425fb\n") == (
        0x1ffffffffff, 0xa80425fb)
