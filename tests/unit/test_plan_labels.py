"""Labels of SELinux in plans, as they are on a host that has it."""

from __future__ import annotations

import datetime
import itertools
import json
from typing import Any

import msgspec
import pytest

from pyruntime.errors import UnsupportedFieldError
from pyruntime.host import Hierarchy, Host
from pyruntime.plan import flags
from pyruntime.plan import operations as op
from pyruntime.plan.compile import Place, compile, compile_exec
from pyruntime.plan.operations import Operation, Plan, Slot
from pyruntime.runtimes.compiled import ProcessCache, inherited_of
from pyruntime.spec import Spec, decode_process, load_spec
from pyruntime.state import ContainerRecord
from pyruntime.testing.bundles import default_config, merge

WITHOUT = [Host((6, 1), (Hierarchy("/cg/devices", False, ("devices",)), Hierarchy("/cg/unified", True)), 0),
           Host((6, 1), (Hierarchy("/cg", True),), 0)]
ENFORCING = [msgspec.structs.replace(host, has_selinux=True) for host in WITHOUT]
LABEL, FILES = "system_u:system_r:container_t:s0:c1,c2", "system_u:object_r:container_file_t:s0:c1,c2"


def spec_of(**changes: Any) -> Spec:
    config = default_config()
    merge(config, changes)
    return load_spec(json.dumps(config).encode())


def plan_of(host: Host, **changes: Any) -> Plan:
    return compile(spec_of(**changes), host, Place("c", "/b", "/b/rootfs", "/run/c"))


def record_of(**changes: Any) -> ContainerRecord:
    return ContainerRecord("c", "1.3.0", "/b", "/b/rootfs", 1, 2, datetime.datetime.now(datetime.UTC), flags.CLONE_NEWPID, False, (),
                           inherited=inherited_of(spec_of(**changes)))


def only(plan: Plan, kind: type[Operation]) -> Any:
    (found,) = [operation for operation in plan.init if isinstance(operation, kind)]
    return found


def order(plan: Plan, *kinds: type[Operation]) -> list[type[Operation]]:
    return [type(operation) for operation in plan.init if type(operation) in kinds]


def writes(plan: Plan) -> list[tuple[str, str, str, Slot]]:
    return [(step.json_path, step.path.decode(), step.value.decode(), step.slot) for step in plan.init if isinstance(step, op.WriteProc)]


@pytest.mark.conformance(19)
@pytest.mark.parametrize("host", ENFORCING, ids=["v1", "v2"])
def test_the_label_is_written_to_a_procfs_of_the_runtimes_own(host: Host) -> None:
    plan = plan_of(host, process={"selinuxLabel": LABEL})
    proc = only(plan, op.OpenProc).slot
    assert writes(plan) == [("$.process.selinuxLabel", f"self/attr/{name}", LABEL, proc) for name in ("keycreate", "exec")]
    assert order(plan, op.OpenProc, op.PivotRoot, op.WriteProc, op.JoinSessionKeyring, op.SetIdentity) == [
        op.OpenProc, op.PivotRoot, op.WriteProc, op.JoinSessionKeyring, op.WriteProc, op.SetIdentity]
    decoded = decode_process({"args": ["sh"], "cwd": "/", "selinuxLabel": LABEL})
    plan = compile_exec(decoded, (), flags.CLONE_NEWPID, "c", has_selinux=True)
    proc = only(plan, op.OpenProc).slot
    assert writes(plan) == [("$.selinuxLabel", f"self/attr/{name}", LABEL, proc) for name in ("keycreate", "exec")]
    assert order(plan, op.OpenProc, op.JoinProcessNamespaces, op.WriteProc, op.JoinSessionKeyring, op.EnterPidNamespace) == [
        op.OpenProc, op.JoinProcessNamespaces, op.WriteProc, op.JoinSessionKeyring, op.WriteProc, op.EnterPidNamespace]
    plan = compile_exec(decoded, (), flags.CLONE_NEWPID, "c", has_selinux=True, keeps_keyring=True)
    assert [path for _, path, *_ in writes(plan)] == ["self/attr/exec"]


@pytest.mark.conformance(19)
def test_further_processes_have_the_containers_label() -> None:
    record = record_of(process={"selinuxLabel": LABEL})
    for process, label in (({}, LABEL), ({"selinuxLabel": "a:b:c:s0"}, "a:b:c:s0")):
        plan = ProcessCache().compile({"args": ["sh"], "cwd": "/", **process}, record, ENFORCING[1], 0).plan
        assert [value for *_, value, _ in writes(plan)] == [label, label]


@pytest.mark.conformance(19, 54)
@pytest.mark.parametrize(("changes", "json_path"), [({"process": {"selinuxLabel": LABEL}}, "$.process.selinuxLabel"),
                                                    ({"linux": {"mountLabel": FILES}}, "$.linux.mountLabel")])
def test_labels_where_there_is_no_selinux(changes: dict[str, Any], json_path: str) -> None:
    with pytest.raises(UnsupportedFieldError) as raised:
        plan_of(WITHOUT[0], **changes)
    assert raised.value.json_path == json_path and "SELinux is not enabled" in raised.value.reason
    if "process" in changes:
        with pytest.raises(UnsupportedFieldError) as raised:
            compile_exec(decode_process({"args": ["sh"], "cwd": "/", "selinuxLabel": LABEL}), (), 0, "c")
        assert raised.value.json_path == "$.selinuxLabel"


@pytest.mark.conformance(54)
@pytest.mark.parametrize("host", ENFORCING, ids=["v1", "v2"])
def test_every_file_system_that_takes_a_label_has_the_containers(host: Host) -> None:
    """But for one that has a context of its own; the kernel labels what it shows in proc and sysfs."""
    mounts = [{"destination": f"/{kind}", "type": kind, "source": kind} for kind in ("proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup")]
    mounts += [{"destination": "/own", "type": "tmpfs", "options": ["context=a:b:c"]},
               {"destination": "/bound", "source": "/x", "options": ["bind"]}]
    plan = plan_of(host, mounts=mounts, linux={"mountLabel": FILES, "maskedPaths": ["/proc/kcore"]})
    contexts: dict[str, list[str]] = {}
    for operation in plan.init:
        if isinstance(operation, op.NewFilesystem | op.NewTmpfs):
            place = operation.path.decode() if isinstance(operation, op.NewTmpfs) else operation.place
            contexts[place or "mask"] = [option.decode().partition("=")[2] for option in operation.options
                                         if option.startswith(b"context=")]
    expected = {"/proc": [], "/sysfs": [], "/tmpfs": [FILES], "/devpts": [FILES], "/mqueue": [], "/own": ["a:b:c"], "mask": [FILES]}
    assert contexts == (expected | {"/cgroup": [FILES]} if host.hierarchies[0].controllers else expected)
    label = only(plan, op.LabelFilesystem)
    (mqueue,) = [operation for operation in plan.init if isinstance(operation, op.NewFilesystem) and operation.type == b"mqueue"]
    assert label == op.LabelFilesystem("$.linux.mountLabel", FILES.encode(), mqueue.slot, "/mqueue")
    kinds = [type(operation) for operation in plan.init]
    assert kinds[kinds.index(op.LabelFilesystem) - 1:][:3] == [op.NewFilesystem, op.LabelFilesystem, op.AttachMount]


def test_no_label_is_none() -> None:
    for host in (*ENFORCING, *WITHOUT):
        plan = plan_of(host, process={"selinuxLabel": ""}, linux={"mountLabel": ""})
        steps = itertools.chain.from_iterable(operation.options for operation in plan.init
                                              if isinstance(operation, op.NewFilesystem | op.NewTmpfs))
        assert not any(option.startswith(b"context=") for option in steps)
        assert op.WriteProc not in order(plan, op.WriteProc) and op.LabelFilesystem not in order(plan, op.LabelFilesystem)
