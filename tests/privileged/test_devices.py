"""Device rules: what is not allowed is denied, by devices.allow and devices.deny on v1 and by a program on v2."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from lab import Lab, capabilities, is_unified

from pyruntime import UnsupportedFieldError
from pyruntime.plan import device_rules

# A device that no container has by default, that every kernel has, and that anybody may open for writing if the node's
# mode and the rules allow it: /dev/kmsg. Nothing is written.
KMSG = {"type": "c", "major": 1, "minor": 11}
DENY_ALL = {"allow": False, "access": "rwm"}
NODE = {"path": "/dev/probe", "fileMode": 0o666, **KMSG}


def allow(access: str = "rwm", **numbers: Any) -> dict[str, Any]:
    return {"allow": True, "access": access, **(numbers or KMSG)}


def deny(access: str = "rwm", **numbers: Any) -> dict[str, Any]:
    return {"allow": False, "access": access, **(numbers or KMSG)}


def verdicts(lab: Lab, rules: list[dict[str, Any]] | None, **changes: Any) -> str:
    """`w` if the probe opens for writing, `m` if a second node can be made; errors other than EPERM are in words."""
    script = ("say() { case \"$2\" in '') printf $1;; *'not permitted'*) ;; *) echo \"$2\";; esac; }; "
              "say w \"$( (: >/dev/probe) 2>&1 )\"; say m \"$(mknod /dev/second c 1 11 2>&1)\"")
    resources: dict[str, Any] = {} if rules is None else {"devices": rules}
    config = {"linux": {"devices": [NODE], "resources": resources}, "process": capabilities("CAP_MKNOD"), **changes}
    return lab.run(script, **config)


def test_denied_by_default(lab: Lab) -> None:
    """A list of allowances only, an empty one, none, and one that begins with denying everything."""
    fuse = allow(type="c", major=10, minor=229)
    for rules in (None, [], [DENY_ALL], [fuse], [DENY_ALL, fuse], [deny(type="c")]):
        assert verdicts(lab, rules) == "m", rules


def test_no_resources_at_all(lab: Lab) -> None:
    out = lab.run("(: >/dev/probe) 2>&1", linux={"devices": [NODE], "resources": None})
    assert "not permitted" in out


def test_default_devices_work(lab: Lab) -> None:
    for rules in ([], [DENY_ALL], [deny(type="c", major=1, minor=3)]):
        out = lab.run("for d in null zero full random urandom; do (: >/dev/$d && head -c1 /dev/$d >/dev/null) || echo $d; done;"
                      " (: </dev/ptmx) || echo ptmx; echo end", linux={"resources": {"devices": rules}})
        assert out == "end\n"


@pytest.mark.parametrize(("rules", "opens"), [
    ([allow()], True),
    ([DENY_ALL, allow()], True),
    ([allow("w")], True),
    ([allow("rm")], False),
    ([allow(type="c")], True),
    ([allow(type="c", major=1)], True),
    ([allow(type="c", minor=11)], True),
    ([allow(type="a", major=1, minor=11)], True),
    ([allow(type="b", major=1, minor=11)], False),
    ([allow(type="a", major=7)], False),
    ([allow("r", type="a")], False),
    ([allow("w", type="a")], True),
    ([allow(type="a")], True),
    ([allow(), deny()], False),
    ([deny(), allow()], True),
    ([allow(), deny("w")], False),
    ([allow(), deny("r")], True),
    ([allow(), deny(type="c")], False),
    ([allow(), deny(type="a", major=1)], False),
    ([allow(), DENY_ALL], False),
    ([allow(type="a"), deny()], False),
    ([allow(type="a"), deny("w")], False),
    ([allow(type="a"), deny("r")], True),
    ([allow(type="a"), deny(), allow()], True),
    ([allow(type="c"), deny()], False),
    ([DENY_ALL, allow(type="a"), DENY_ALL], False),
    ([allow(major=1, minor=11, type="c"), deny(type="c", major=10)], True),
])
def test_the_last_rule_that_matches_decides(lab: Lab, rules: list[dict[str, Any]], opens: bool) -> None:
    assert verdicts(lab, rules) == ("wm" if opens else "m")


LOOP = {"type": "b", "major": 7, "minor": 0}


@pytest.mark.parametrize(("rules", "opens"), [
    ([], False), ([DENY_ALL], False), ([allow(**LOOP)], True), ([allow("rm", **LOOP)], True), ([allow(type="b")], True),
    ([allow(type="b", major=7)], True), ([allow("w", **LOOP)], False), ([allow("r", type="b", major=7, minor=1)], False),
    ([allow("rwm", type="c", major=7, minor=0)], False), ([allow(**LOOP), deny(**LOOP)], False),
])
def test_block_device(lab: Lab, rules: list[dict[str, Any]], opens: bool) -> None:
    """The node has its numbers whatever the rules say. Opening it is EPERM, or what the kernel says of a device that may be absent."""
    node = {"path": "/dev/disk", "fileMode": 0o640, "uid": 3, "gid": 4, **LOOP}
    out = lab.run("stat -c '%F %t:%T %a %u:%g' /dev/disk; (: </dev/disk) 2>&1; mknod /dev/same b 7 0 && stat -c '%F %t:%T' /dev/same",
                  linux={"devices": [node], "resources": {"devices": rules}}, process=capabilities("CAP_MKNOD", "CAP_DAC_OVERRIDE"))
    first, *opening, last = out.splitlines()
    assert (first, last) == ("block special file 7:0 640 3:4", "block special file 7:0")
    assert any("Operation not permitted" in line for line in opening) is not opens
    assert not opens or opening == [] or "No such device or address" in opening[0]


def test_a_hole_that_v1_cannot_have(lab: Lab) -> None:
    """An exception of an exception: v2 can, on v1 it is an error and not an allowance."""
    rules = [allow(type="c", major=1), deny()]
    if is_unified():
        assert verdicts(lab, rules) == "m"
        return
    with pytest.raises(UnsupportedFieldError) as raised:
        verdicts(lab, rules)
    assert raised.value.json_path == "$.linux.resources.devices"


def test_rules_hold_for_exec(lab: Lab) -> None:
    lab.sleeper(linux={"devices": [NODE], "resources": {"devices": [DENY_ALL]}})
    assert "not permitted" in lab.exec("(: >/dev/probe) 2>&1")


def test_making_nodes(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default any node can be made by who has the capability, and what is not allowed does not open."""
    assert verdicts(lab, [DENY_ALL]) == "m"
    assert verdicts(lab, [DENY_ALL], process=capabilities()) == ""
    # without that default the kernel asks the rules
    wildcards = [rule for rule in device_rules.DEFAULT_RULES if rule.major is None]
    assert {rule.access for rule in wildcards} == {"m"}
    monkeypatch.setattr(device_rules, "DEFAULT_RULES",
                        tuple(rule for rule in device_rules.DEFAULT_RULES if rule.major is not None))
    script = "mknod /dev/probe c 1 11 2>&1 && echo made"
    for rules, made in (([DENY_ALL], False), ([allow("m")], True), ([allow("m", type="c")], True), ([allow("rw")], False),
                        ([allow("m", type="b")], False), ([allow("m"), deny("m")], False)):
        out = lab.run(script, linux={"resources": {"devices": rules}}, process=capabilities("CAP_MKNOD"))
        assert out == "made\n" if made else "not permitted" in out, (rules, out)


def test_accesses_of_several_rules_add_up(lab: Lab) -> None:
    """Reading by one rule and writing by another: an open for both is allowed."""
    script = "(: <>/dev/probe) 2>&1 && echo opened"
    for rules in itertools.permutations([allow("r"), allow("w", type="c", major=1)]):
        out = lab.run(script, linux={"devices": [NODE], "resources": {"devices": list(rules)}},
                      process=capabilities("CAP_SYSLOG"))
        assert out == "opened\n", rules
