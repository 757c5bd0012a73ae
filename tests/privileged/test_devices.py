"""Device rules: what is not allowed is denied, by devices.allow and devices.deny on v1 and by a program on v2. And nodes."""

from __future__ import annotations

import itertools
import logging
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from lab import MAPS, NAMESPACES, Lab, capabilities, is_unified, namespaces

from pyruntime import UnsupportedFieldError
from pyruntime.errors import SetupError
from pyruntime.plan import device_rules
from pyruntime.testing.bundles import default_config

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


@pytest.mark.conformance(37)
def test_denied_by_default(lab: Lab) -> None:
    """A list of allowances only, an empty one, none, and one that begins with denying everything."""
    fuse = allow(type="c", major=10, minor=229)
    for rules in (None, [], [DENY_ALL], [fuse], [DENY_ALL, fuse], [deny(type="c")]):
        assert verdicts(lab, rules) == "m", rules


@pytest.mark.conformance(37)
def test_no_resources_at_all(lab: Lab) -> None:
    out = lab.run("(: >/dev/probe) 2>&1", linux={"devices": [NODE], "resources": None})
    assert "not permitted" in out


@pytest.mark.conformance(32)
def test_default_devices_work(lab: Lab) -> None:
    for rules in ([], [DENY_ALL], [deny(type="c", major=1, minor=3)]):
        out = lab.run("for d in null zero full random urandom; do (: >/dev/$d && head -c1 /dev/$d >/dev/null) || echo $d; done;"
                      " (: </dev/ptmx) || echo ptmx; echo end", linux={"resources": {"devices": rules}})
        assert out == "end\n"


@pytest.mark.conformance(37)
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


@pytest.mark.conformance(37)
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


@pytest.mark.conformance(37)
@pytest.mark.parametrize("rules", [None, [], [allow(type="c", major=10, minor=229)], [{"allow": True, "type": "c"}]])
def test_no_disk_can_be_opened(lab: Lab, rules: list[dict[str, Any]] | None) -> None:
    """Neither one of this host nor the first SCSI disk, by a process that may do everything else."""
    disks = ["8 0", *(path.read_text().strip().replace(":", " ") for path in sorted(Path("/sys/class/block").glob("*/dev"))[:8])]
    script = f"i=0; for d in {' '.join(repr(disk) for disk in disks)}; do i=$((i+1)); mknod /dev/d$i b $d && (: </dev/d$i) 2>&1; done"
    resources: dict[str, Any] = {} if rules is None else {"devices": rules}
    out = lab.run(script, linux={"resources": resources}, process=capabilities("CAP_MKNOD", "CAP_DAC_OVERRIDE", "CAP_SYS_RAWIO"))
    assert out.count("Operation not permitted") == len(disks) == len(out.splitlines())


def test_a_hole_that_v1_cannot_have(lab: Lab) -> None:
    """An exception of an exception: v2 can, on v1 it is an error and not an allowance."""
    rules = [allow(type="c", major=1), deny()]
    if is_unified():
        assert verdicts(lab, rules) == "m"
        return
    with pytest.raises(UnsupportedFieldError) as raised:
        verdicts(lab, rules)
    assert raised.value.json_path == "$.linux.resources.devices"


@pytest.mark.conformance(37)
def test_rules_hold_for_exec(lab: Lab) -> None:
    lab.sleeper(linux={"devices": [NODE], "resources": {"devices": [DENY_ALL]}})
    assert "not permitted" in lab.exec("(: >/dev/probe) 2>&1")


@pytest.mark.conformance(37)
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


@pytest.mark.conformance(37)
def test_accesses_of_several_rules_add_up(lab: Lab) -> None:
    """Reading by one rule and writing by another: an open for both is allowed."""
    script = "(: <>/dev/probe) 2>&1 && echo opened"
    for rules in itertools.permutations([allow("r"), allow("w", type="c", major=1)]):
        out = lab.run(script, linux={"devices": [NODE], "resources": {"devices": list(rules)}},
                      process=capabilities("CAP_SYSLOG"))
        assert out == "opened\n", rules


# nodes: made, or there already

ZERO = {"type": "c", "major": 1, "minor": 5}
WITHOUT_DEV = [mount for mount in default_config()["mounts"] if not mount["destination"].startswith("/dev")]


@pytest.fixture
def dev(tmp_path: Path) -> Path:
    """A directory of the host's with devices, to be bound over /dev: `zero`, 0640 and 7:8, and `null`, 0600 and 1:2."""
    directory = tmp_path / "dev"
    directory.mkdir()
    for name, minor, mode, uid, gid in (("zero", 5, 0o640, 7, 8), ("null", 3, 0o600, 1, 2)):
        os.mknod(directory / name, stat.S_IFCHR | mode, os.makedev(1, minor))
        os.chown(directory / name, uid, gid)
        os.chmod(directory / name, mode)
    (directory / "file").touch()
    return directory


def seen(directory: Path) -> dict[str, tuple[int, int, int, int]]:
    return {entry.name: ((st := entry.stat(follow_symlinks=False)).st_mode, st.st_uid, st.st_gid, st.st_rdev)
            for entry in os.scandir(directory)}


@pytest.mark.conformance(31)
@pytest.mark.parametrize("stated", [{}, {"fileMode": 0o640}, {"fileMode": 0o640, "uid": 7, "gid": 8}], ids=str)
def test_devices_in_a_bound_dev(lab: Lab, dev: Path, stated: dict[str, int]) -> None:
    """What an engine lists of the host's own /dev is there; the rest is the host's affair."""
    before = seen(dev)
    bound = {"destination": "/dev", "source": str(dev), "options": ["rbind"]}
    linux = {"devices": [{**ZERO, **stated, "path": "/dev/zero"}, {**ZERO, "path": "/opt/zero", "uid": 3}]}
    out = lab.run("head -c3 /dev/zero | wc -c; stat -c '%a %u:%g' /dev/zero /dev/null /opt/zero", mounts=[*WITHOUT_DEV, bound],
                  root={"readonly": False}, linux=linux, process=capabilities("CAP_DAC_OVERRIDE"))
    assert out.splitlines() == ["3", "640 7:8", "600 1:2", "666 3:0"]
    assert seen(dev) == before


DIFFERENT: list[tuple[dict[str, Any], str, str]] = [
    ({"path": "/dev/null"}, "EEXIST", "something else"),
    ({"path": "/dev/file"}, "EEXIST", "something else"),
    ({"path": "/dev/zero", "type": "b"}, "EEXIST", "something else"),
    ({"path": "/dev/zero", "fileMode": 0o666}, "EEXIST", "another mode"),
    ({"path": "/dev/zero", "uid": 0}, "EEXIST", "another user"),
    ({"path": "/dev/zero", "gid": 0}, "EEXIST", "another group"),
]
MISSING = [({"path": path}, "ENOENT", "does not have it") for path in ("/dev/none", "/dev/none/zero")]


@pytest.mark.conformance(31)
@pytest.mark.parametrize(("where", "device", "errno_name", "why"), [
    *(("a bound /dev", *row) for row in (*MISSING, *DIFFERENT)), *(("the image", *row) for row in DIFFERENT)])
def test_devices_that_cannot_be_as_stated(lab: Lab, dev: Path, where: str, device: dict[str, Any], errno_name: str, why: str) -> None:
    if where == "the image":
        for name, (mode, uid, gid, number) in seen(dev).items():
            os.mknod(lab.rootfs / "dev" / name, mode, number)
            os.chown(lab.rootfs / "dev" / name, uid, gid)
    before = seen(dev)
    mounts = [*WITHOUT_DEV, *([{"destination": "/dev", "source": str(dev), "options": ["rbind"]}] if where == "a bound /dev" else [])]
    with pytest.raises(SetupError) as raised:
        lab.create("true", mounts=mounts, linux={"devices": [{**ZERO, **device}]})
    error = raised.value
    assert (error.step, error.path, error.errno_name, error.json_path) == (
        "make node", device["path"], errno_name, "$.linux.devices[0]")
    assert why in error.detail
    assert seen(dev) == before and not lab.runtime.container_exists("p1")


@pytest.mark.conformance(32)
def test_a_default_device_of_the_image_stays_as_it_is(lab: Lab) -> None:
    null = lab.rootfs / "dev" / "null"
    os.mknod(null, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.chown(null, 5, 6)
    assert lab.run("stat -c '%a %u:%g' /dev/null /dev/zero", mounts=WITHOUT_DEV).splitlines() == ["600 5:6", "666 0:0"]


@pytest.mark.conformance(31)
def test_a_device_of_the_image_that_is_as_stated(lab: Lab) -> None:
    """A second container on the same image, which has no /dev of its own, finds the node of the first."""
    device = {**ZERO, "path": "/opt/zero", "fileMode": 0o604, "uid": 5, "gid": 6}
    for _ in range(2):
        assert lab.run("stat -c '%a %u:%g %t:%T' /opt/zero", linux={"devices": [device]}) == "604 5:6 1:5\n"


@pytest.mark.conformance(31)
@pytest.mark.parametrize(("path", "kind", "major", "minor", "name"), [
    ("/dev/nothing", "c", 1, 5, "zero"), ("/dev/some/nothing", "c", 1, 5, "zero"), ("/dev/null", "c", 1, 5, "zero"),
    ("/dev/disk", "b", 7, 0, "loop0"),
    # where its module is not there the kernel has no name for it
    *([("/dev/tunnel", "c", 10, 200, "net/tun")] if Path("/dev/net/tun").exists() else [])])
def test_a_device_of_a_user_namespace_has_the_name_that_is_wanted(reachable: Lab, path: str, kind: str, major: int, minor: int,
                                                                 name: str) -> None:
    """The host's node is what the kernel calls it; what has that path there is another one, or none."""
    node = Path("/dev", name).stat()
    assert (os.major(node.st_rdev), os.minor(node.st_rdev)) == (major, minor)
    out = reachable.run(f"stat -c '%F %t:%T %i' {path}", linux={
        "namespaces": namespaces(*NAMESPACES, "user"), **MAPS, "devices": [{"path": path, "type": kind, "major": major, "minor": minor}]})
    assert out == f"{'block' if kind == 'b' else 'character'} special file {major:x}:{minor:x} {node.st_ino}\n"


def test_devices_of_a_user_namespace_are_warned_of(reachable: Lab, caplog: pytest.LogCaptureFixture) -> None:
    """No node can be made there: the host's is bound, and the mode and owner that engines copy from it cannot be compared."""
    device = {"path": "/dev/zero", "fileMode": 0o600, "uid": 0, "gid": 0, **ZERO}
    with caplog.at_level(logging.WARNING, "pyruntime"):
        out = reachable.run("head -c3 /dev/zero | wc -c; stat -c %a /dev/zero",
                            linux={"namespaces": namespaces(*NAMESPACES, "user"), **MAPS, "devices": [device]})
    assert out.splitlines() == ["3", "666"]
    (record,) = [record for record in caplog.records if record.name == "pyruntime"]
    assert "config.json" in record.getMessage() and "/dev/zero" in record.getMessage() and "fileMode" in record.getMessage()
