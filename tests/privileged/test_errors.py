"""Operations that are forced to fail: step, path, errno and JSON path are in the exception, and nothing is left."""

from __future__ import annotations

import os
import tempfile

import pytest

from pyruntime.errors import SetupError
from pyruntime.native import process as native
from pyruntime.native.encoder import encode
from pyruntime.plan import flags
from pyruntime.plan import operations as op
from pyruntime.plan.operations import Operation, Plan, Slot
from pyruntime.testing.snapshot import HostSnapshot

pytestmark = pytest.mark.privileged

HOST, INIT = Slot("host", 0), Slot("init", 0)
J = "$.probe"
NONE = b"/does/not/exist"
LONG = b"x" * 70
TOO_LONG = b"x" * 300 + b"/y"  # for what would be made below the working directory if it could
END = op.ExecuteProgram("", (b"/bin/true",), ())

# where, operation, path, errno; an init slot that nobody filled is no descriptor
HOST_ROWS = [
    (op.MakeCgroup(J, NONE + b"/x", len(NONE)), "ENOENT"),
    (op.EnableControllers(J, NONE + b"/x", b"cpu", len(NONE)), "ENOENT"),
    (op.WriteFile(J, NONE, (b"1",)), "ENOENT"),
    (op.AttachDeviceProgram(J, NONE, b"\0" * 8, 8), "ENOENT"),
    (op.OpenCgroup(J, NONE, HOST), "ENOENT"),
    (op.OpenTree(J, NONE, HOST, 0, 0), "ENOENT"),
    (op.OpenNamespace(J, b"/dev/null", HOST, flags.CLONE_NEWUSER), "EINVAL"),
    (op.PassDescriptor(J, HOST, 100_000), "EBADF"),
    (op.ListenForStart(J, NONE, b"start", HOST), "ENOENT"),
    (op.SetMountAttributes(J, HOST, 1, 0, 0, 0), "EBADF"),
]
CHILD_ROWS = [
    (op.WriteChildProc(J, b"does-not-exist", b"x"), "ENOENT"),
    (op.RaiseHardLimit(J, 1000, 1), "EINVAL"),
]
INIT_ROWS = [
    (op.JoinCgroup(J, NONE), "ENOENT"),
    (op.JoinNamespace(J, INIT, flags.CLONE_NEWUTS), "EBADF"),
    (op.JoinProcessNamespaces(J, INIT, flags.CLONE_NEWUTS), "EBADF"),
    (op.SetPropagation(J, b"does-not-exist", 0, 0), "ENOENT"),
    (op.WriteProc(J, b"sys/none", b"1", INIT), "EBADF"),
    (op.NewFilesystem(J, b"nonefs", (), INIT, 0), "ENODEV"),
    (op.SetMountAttributes(J, INIT, 1, 0, 0, 0), "EBADF"),
    (op.PivotRoot(J, INIT), "EBADF"),
    (op.SwitchRoot(J, INIT), "EBADF"),
    (op.AttachMount(J, b"/x", INIT, 0), "EBADF"),
    (op.MakeDirectory(J, TOO_LONG, 0o755), "ENAMETOOLONG"),
    (op.MakeNode(J, TOO_LONG, 0o10600, 0, 0, 0), "ENAMETOOLONG"),
    (op.MakeLink(J, TOO_LONG, b"y", 0), "ENAMETOOLONG"),
    (op.SetHostname(J, LONG), "EINVAL"),
    (op.SetDomainname(J, LONG), "EINVAL"),
    (op.AwaitStart(J, INIT), None),
    (op.ChangeDirectory(J, b"does-not-exist", 0), "ENOENT"),
    (op.SetRlimit(J, 1000, 0, 0), "EINVAL"),
    (op.SetIdentity(J, b"", 0, 0xFFFFFFFE, 0xFFFFFFFE, 0), None),
    (END.__class__(J, (NONE,), ()), "ENOENT"),
]
ROWS = [(where, operation, name) for where, rows in (("host", HOST_ROWS), ("child", CHILD_ROWS), ("init", INIT_ROWS))
        for operation, name in rows if name is not None]

# no failure can be forced without a fault injected in the kernel, or the plan cannot be built by hand alone
NOT_FORCED = {
    op.ReleaseChild, op.AwaitIdMaps, op.UnshareNamespaces, op.StartSession, op.UnshareTimeNamespace, op.EnterPidNamespace,
    op.IsolatePropagation, op.OpenProc, op.OpenConsole, op.MaskPath, op.ProtectPath, op.RaiseLoopback,
    op.JoinSessionKeyring, op.AwaitStart, op.OwnStdio, op.SetHome, op.SetBoundingCapabilities, op.SetIdentity,
    op.SetCapabilities, op.SetAmbientCapabilities, op.SetNoNewPrivileges, op.SetUmask,
}


def run(plan: Plan) -> None:
    null = os.open("/dev/null", os.O_RDWR)
    try:
        native.follow(spawned := native.spawn(encode(plan), "", (null, null, null)), native.MESSAGE_EXECUTING)
        native.wait_until_ended(spawned.pidfd)
        native.reap(spawned.pidfd)
        spawned.close()
    finally:
        os.close(null)


@pytest.mark.parametrize("where,operation,errno_name", ROWS, ids=[f"{w}-{type(o).__name__}" for w, o, _ in ROWS])
def test_a_failure_says_everything(where: str, operation: Operation, errno_name: str) -> None:
    lists: dict[str, tuple[Operation, ...]] = {"host": (), "child": (), "init": (END,)}
    lists[where] = (operation, *lists[where])
    # in namespaces of its own: an operation that succeeds by mistake changes nothing of the host
    isolated = flags.CLONE_NEWNS | flags.CLONE_NEWUTS
    plan = Plan(lists["host"], lists["child"], lists["init"], isolated, None, 1, 1)
    run(Plan((), (), (END,), isolated, None, 0, 0))
    with tempfile.TemporaryDirectory() as directory:
        before = HostSnapshot.take(directory)
        with pytest.raises(SetupError) as caught:
            run(plan)
        left = HostSnapshot.take(directory).differences(before)
    error = caught.value
    assert (error.step, error.path, error.errno_name, error.json_path) == (
        op.step_of(operation), operation.subject(), errno_name, J)
    assert [line for line in left if " cgroups: " not in line] == []


def test_every_operation_is_in_the_table() -> None:
    every = {cls for cls in vars(op).values() if isinstance(cls, type) and issubclass(cls, Operation)} - {Operation}
    forced = {type(operation) for _, operation, _ in ROWS}
    assert forced.isdisjoint(NOT_FORCED)
    assert every == forced | NOT_FORCED
