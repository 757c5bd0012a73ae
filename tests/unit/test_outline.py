"""A plan told step by step: everything that is in it, in an order that can be executed, and why."""

from __future__ import annotations

import json
from typing import Any

import pytest
from filters import compiled
from spec_examples import NAMESPACES, full, load, put, small

from pyruntime.host import Hierarchy, Host, Unprivileged
from pyruntime.plan import operations as op
from pyruntime.plan.compile import Manner, Place, compile
from pyruntime.plan.operations import Plan
from pyruntime.plan.outline import Step, outline
from pyruntime.plan.seccomp import Filter
from pyruntime.spec.default_config import default_config, rootless_config

V1_CONTROLLERS = ("blkio", "cpu", "cpuset", "devices", "freezer", "hugetlb", "memory", "net_cls", "net_prio", "pids", "rdma")
ABLE: dict[str, Any] = {"has_apparmor": True, "has_selinux": True, "resctrl": "/sys/fs/resctrl"}
V1 = Host((6, 18), tuple(Hierarchy(f"/cg/{name}", False, (name,)) for name in V1_CONTROLLERS), 2**41 - 1, **ABLE)
V2 = Host((6, 18), (Hierarchy("/cg", True),), 2**41 - 1, **ABLE)
USER = Host((6, 18), (), 0, caller=Unprivileged(1000, 1000, "/usr/bin/newuidmap", "/usr/bin/newgidmap"))


def without_namespaces(config: dict[str, Any], *names: str) -> dict[str, Any]:
    config["linux"]["namespaces"] = [entry for entry in config["linux"]["namespaces"] if entry["type"] not in names]
    return config


def mapped(config: dict[str, Any]) -> dict[str, Any]:
    """In a user namespace with a range of ids."""
    without_namespaces(config, "user")["linux"]["namespaces"].append({"type": "user"})
    for name in ("uidMappings", "gidMappings"):
        config["linux"][name] = [{"containerID": 0, "hostID": 5, "size": 9}]
    return config


def joined() -> dict[str, Any]:
    return put(default_config(), ("linux", "namespaces"), [{"type": name, "path": f"/n/{name}"} for name in NAMESPACES])


def plan_of(config: dict[str, Any], host: Host = V2, **manner: Any) -> Plan:
    program = Filter(compiled("SCMP_ACT_ERRNO").program, 0) if "seccomp" in config["linux"] else None
    return compile(load(config), host, Place("c1", "/b", "/b/rootfs", "/run/c1"), Manner(**manner), program)


def steps_of(config: dict[str, Any], host: Host = V2, **manner: Any) -> list[Step]:
    return outline(plan_of(config, host, **manner))


CASES: dict[str, tuple[dict[str, Any], Host]] = {
    "small": (small(), V2), "default v1": (default_config(), V1), "default v2": (default_config(), V2),
    "rootless": (rootless_config(1000, 1000), USER), "joined": (joined(), V2),
    "host's mounts": (put(put(without_namespaces(default_config(), "mount"), ("linux", "maskedPaths"), []), ("linux", "readonlyPaths"), []),
                      V2),
    "no process": ({name: value for name, value in default_config().items() if name != "process"}, V1),
    "hooks": (put(default_config(), ("hooks",), full()["hooks"]), V1),
    "mapped": (mapped(default_config()), V2), "user's ranges": (mapped(rootless_config(1000, 1000)), USER)}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("no_pivot", [False, True])
def test_every_operation_is_told_once_and_with_its_reason(case: str, no_pivot: bool) -> None:
    config, host = CASES[case]
    plan = plan_of(config, host, no_pivot=no_pivot, finds_program=True)
    steps = outline(plan)
    told = [step.operands for step in steps if step.step not in ("run hook", "clone the init") or step.by == "init"]
    assert len(told) == len(plan.host) + len(plan.child) + len(plan.init)
    assert [step.step for step in steps if step.by == "init"] == [_words(operation) for operation in plan.init]
    assert [step for step in steps if step.json_path is None and step.reason is None] == []
    json.dumps([step.operands for step in steps])


def _words(operation: op.Operation) -> str:
    return str(operation)[:32].split("  ")[0].rstrip()


def test_all_of_the_specification() -> None:
    """Also what few plans have: devices of the network, scheduling, hooks of all kinds, a filter, labels."""
    config = full()
    config["mounts"] = [{"destination": "/data", "source": "/volumes/data", "options": ["rbind"]}]
    config["linux"]["resources"] = {}
    config["linux"]["namespaces"] = [{"type": name} for name in NAMESPACES]
    steps = steps_of(config, V1)
    assert [step for step in steps if step.json_path is None and step.reason is None] == []
    names = [step.step for step in steps]
    assert {"move network device", "set scheduler", "set io priority", "install filter", "set apparmor profile", "unshare time namespace",
            "set memory policy", "set personality"} < set(names)
    assert [step.json_path for step in steps if step.step == "run hook"] == [
        f"$.hooks.{kind}[0]" for kind in ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")]
    by_path = {step.json_path: step for step in steps}
    assert by_path["$.hooks.poststop[0]"].stage == "delete" and by_path["$.hooks.startContainer[0]"].stage == "start"
    assert by_path["$.hooks.createContainer[0]"].by == "init" and by_path["$.hooks.createRuntime[0]"].by == "host"
    assert by_path['$.linux.netDevices["eth0"]'].details == "as inner0"
    assert "deadline 30000000" in by_path["$.process.scheduler"].details


@pytest.mark.parametrize("case", CASES)
def test_each_step_has_what_it_waits_for(case: str) -> None:
    names = [step.step for step in steps_of(*CASES[case])]

    def at(name: str) -> int:
        return names.index(name)

    assert at("clone the init") < min(at(name) for name in ("pass slots", "release child") if name in names)
    for before, after in (("pass slots", "receive slots"), ("release child", "await release"), ("announce hooks", "run hook"),
                          ("listen for start", "await start"), ("await start", "execute program"),
                          ("announce network", "move network device")):
        if before in names and after in names:
            assert at(before) < at(after)
    if "execute program" in names:
        assert names[at("execute program") + 1:] == ["run hook"] * names[at("execute program") + 1:].count("run hook")


def test_what_the_create_hooks_find() -> None:
    """The mounts, and the root not changed yet."""
    names = [(step.step, step.json_path) for step in steps_of(*CASES["hooks"])]
    hook = names.index(("run hook", "$.hooks.createRuntime[0]"))
    assert names.index(("attach mount", "$.mounts[0].destination")) < hook < names.index(("run hook", "$.hooks.createContainer[0]"))
    assert names.index(("run hook", "$.hooks.createContainer[0]")) < names.index(("pivot root", "$.root.path"))


@pytest.mark.parametrize(("step", "subject", "details"), [
    ("make node", "/dev/null", "c 1:3 mode 0666 of 0:0"), ("make link", "/dev/fd", "-> /proc/self/fd"),
    ("new filesystem", "/dev", "tmpfs mode=755 size=65536k source=tmpfs nosuid strictatime"),
    ("set rlimit", "RLIMIT_NOFILE", "soft 1024, hard 1024"), ("set umask", None, "0022"), ("set hostname", "pyruntime", ""),
    ("unshare namespaces", "network, ipc, uts, mount", ""),
    ("set bounding capabilities", None, "CAP_KILL, CAP_NET_BIND_SERVICE, CAP_AUDIT_WRITE"),
    ("open tree", "/b/rootfs", "with all below slave"), ("execute program", "sh", "(2 variables)"),
    ("write file", "/cg/devices/pyruntime/c1/devices.deny", "= a"), ("start session", None, "with the terminal")])
def test_in_words(step: str, subject: str | None, details: str) -> None:
    found = [one for one in steps_of(default_config(), V1) if (one.step, one.subject) == (step, subject)]
    assert [one.details for one in found] == [details]


def test_what_is_only_for_programs() -> None:
    """All operands, but a program, which is only told by its size."""
    found = {step.step: step.operands for step in steps_of(default_config(), V2)}
    assert found["attach device program"]["program"].keys() == {"bytes"} and found["attach device program"]["program"]["bytes"] > 0
    assert found["execute program"]["arguments"] == ["sh"] and found["make node"]["mode"] == 0o20666
    assert found["receive slots"] == {"first": 0, "count": found["receive slots"]["count"]}


def test_a_rule_is_told_where_no_field_asked() -> None:
    steps = steps_of(default_config(), V2)
    reasons = {step.subject: step.reason for step in steps if step.step in ("make node", "make link")}
    assert "Default Devices" in str(reasons["/dev/null"]) and "symbolic links" in str(reasons["/dev/fd"])
    assert "devpts" in str(reasons["/dev/ptmx"])
    in_user_namespace = [step.reason for step in steps_of(*CASES["rootless"]) if step.step == "attach mount" and step.subject == "/dev/null"]
    assert in_user_namespace and "host's is bound" in str(in_user_namespace[0])
