"""Operations that are forced to fail: step, path, errno and JSON path are in the exception, and nothing is left."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from faults import Fault
from lab import MAPS, NAMESPACES, Lab, is_unified, namespaces, with_mounts
from net_lab import pair

from pyruntime import StdioOptions
from pyruntime._native import ffi
from pyruntime.errors import InvalidBundleError, NotCreatedError, SetupError
from pyruntime.native import process as native
from pyruntime.native import scheduling as scheduling  # which is not to be read while reading fails
from pyruntime.native.encoder import encode
from pyruntime.plan import flags
from pyruntime.plan import operations as op
from pyruntime.plan.operations import Operation, Plan, Slot
from pyruntime.plan.scheduling_operations import AwaitScheduling, SetAffinity, SetMemoryPolicy, SetPersonality
from pyruntime.testing.bundles import default_config
from pyruntime.testing.snapshot import HostSnapshot

pytestmark = pytest.mark.privileged

HOST, INIT = Slot("host", 0), Slot("init", 0)
J = "$.probe"
NONE = b"/does/not/exist"
LONG = b"x" * 70
TOO_LONG = b"x" * 300 + b"/y"  # for what would be made below the working directory if it could
OPEN_TIME_OFFSETS = op.OpenTimeOffsets(J, INIT)
END = op.ExecuteProgram("", (b"/bin/true",), ())

# operation, errno, step, what it is about; an init slot that nobody filled is no descriptor
Forced = tuple[Operation, str, str, str | None]
HOST_ROWS: list[Forced] = [
    (op.MakeCgroup(J, NONE + b"/x", len(NONE)), "ENOENT", "make cgroup", "/does/not/exist/x"),
    (op.EnableControllers(J, NONE + b"/x", b"cpu", len(NONE)), "ENOENT", "enable controllers", "/does/not/exist/x"),
    (op.WriteFile(J, NONE, (b"1",)), "ENOENT", "write file", "/does/not/exist"),
    (op.AttachDeviceProgram(J, NONE, b"\0" * 8, 8), "ENOENT", "attach device program", "/does/not/exist"),
    (op.OwnCgroup(J, NONE, 0), "ENOENT", "own cgroup", "/does/not/exist"),
    (op.OpenCgroup(J, NONE, HOST), "ENOENT", "open cgroup", "/does/not/exist"),
    (op.OpenTasks(J, NONE, HOST), "ENOENT", "open tasks", "/does/not/exist"),
    (op.OpenTree(J, NONE, HOST, 0, 0), "ENOENT", "open tree", "/does/not/exist"),
    # no host has such a device: where it has one, that is taken
    (op.OpenTree(J, b"/dev/null", HOST, 0, 0, os.makedev(1, 555)), "ENODEV", "open tree", "/dev/null"),
    (op.OpenTree(J, NONE, HOST, 0, 0, os.makedev(1, 555)), "ENOENT", "open tree", "/does/not/exist"),
    (op.OpenTree(J, b"/dev/null", HOST, 0, 0, os.makedev(1, 555), 1), "ENODEV", "open tree", "/dev/null"),
    (op.MakeUserNamespace(J, b"no map", b"0 0 1\n", HOST), "EINVAL", "make user namespace", "user"),
    (op.MakeUserNamespace(J, b"0 0 1\n", b"0 0 1\n0 0 1\n", HOST), "EINVAL", "make user namespace", "user"),
    (op.SetUnlockedAttributes(J, HOST, 1, 0, 0, 0, "/data"), "EBADF", "set unlocked attributes", "/data"),
    (op.MapMountIds(J, HOST, HOST, 0, "/data"), "EINVAL", "map mount ids", "/data"),
    (op.OpenNamespace(J, b"/dev/null", HOST, flags.CLONE_NEWUSER), "EINVAL", "open namespace", "/dev/null"),
    (op.PassDescriptor(J, HOST, 100_000), "EBADF", "pass descriptor", None),
    (op.ListenForStart(J, NONE, b"start", HOST), "ENOENT", "listen for start", "/does/not/exist"),
    (op.SetMountAttributes(J, HOST, 1, 0, 0, 0, "/data"), "EBADF", "set mount attributes", "/data"),
]
CHILD_ROWS: list[Forced] = [
    (op.WriteChildProc(J, b"does-not-exist", b"x"), "ENOENT", "write child proc", "does-not-exist"),
    (op.RaiseHardLimit(J, 7, 2**63), "EPERM", "raise hard limit", "RLIMIT_NOFILE"),
    (op.RaiseHardLimit(J, 1000, 1), "EINVAL", "raise hard limit", "1000"),
    (op.MapChildIds(J, NONE, (NONE, b"")), "ENOENT", "map child ids", "/does/not/exist"),
    (op.MapChildIds(J, b"/bin/false", (b"/bin/false", b"")), "EPERM", "map child ids", "/bin/false"),
    (op.PassSlots(J, 0, 1), "EBADMSG", "pass slots", None),
]
INIT_ROWS: list[Forced] = [
    (op.MountRoot(J, NONE, INIT), "ENOENT", "mount root", "/does/not/exist"),
    (op.UseRoot(J, INIT, "/srv/root"), "EBADF", "use root", "/srv/root"),
    (op.OpenRootPlace(J, NONE, INIT), "ENOENT", "open root place", "/does/not/exist"),
    (op.PlaceRoot(J, INIT, INIT, "/srv/root"), "EBADF", "place root", "/srv/root"),
    (op.EnterRoot(J, INIT, "/srv/root"), "EBADF", "enter root", "/srv/root"),
    (op.OpenTree(J, NONE, INIT, 0, 0), "ENOENT", "open tree", "/does/not/exist"),
    (op.OpenTree(J, b"/dev/null", INIT, 0, 0, os.makedev(1, 555)), "ENODEV", "open tree", "/dev/null"),
    (op.ReceiveSlots(J, 0, 1), "EBADMSG", "receive slots", None),
    (op.JoinCgroup(J, NONE, INIT), "EBADF", "join cgroup", "/does/not/exist"),
    (op.JoinNamespace(J, INIT, flags.CLONE_NEWUTS), "EBADF", "join namespace", "uts"),
    (op.JoinProcessNamespaces(J, INIT, flags.CLONE_NEWUTS | flags.CLONE_NEWNS), "EBADF", "join process namespaces", "uts, mount"),
    (op.SetAttributesAt(J, b"does-not-exist", 1, 0, 0, 0), "ENOENT", "set attributes at", "does-not-exist"),
    (op.SetAttributesAt(J, b"tests", 1, 0, 0, 0), "EINVAL", "set attributes at", "tests"),
    (op.CopyTree(J, b"does-not-exist", INIT, 0, 0), "ENOENT", "copy tree", "does-not-exist"),
    (op.OfferMount(J, INIT, "/data"), "EBADF", "offer mount", "/data"),
    (op.MapMountIds(J, INIT, INIT, 1, "/data"), "EINVAL", "map mount ids", "/data"),
    (op.ReconfigureFilesystem(J, (b"size=1k",), INIT, "/data"), "EBADF", "reconfigure filesystem", "/data"),
    (op.CountVersions(J, INIT, 0, "/data"), "EBADF", "count versions", "/data"),
    (op.CopyUp(J, b"tests", INIT, flags.COPY_UP_CONTENTS), "EBADF", "copy up", "tests"),
    (op.WriteProc(J, b"sys/none", b"1", INIT), "EBADF", "write proc", "sys/none"),
    (op.SetApparmorProfile(J, b"exec some", INIT, "some"), "EBADF", "set apparmor profile", "some"),
    (SetAffinity(J, b"\0" * 8, 8), "EINVAL", "set affinity", ""),
    (SetAffinity(J, b"\0" * 1000 + b"\1" * 8, 1008), "EINVAL", "set affinity", "8000,8008,8016,8024,8032,8040,8048,8056"),
    (SetMemoryPolicy(J, b"", 0, 2), "EINVAL", "set memory policy", "MPOL_BIND"),
    (SetMemoryPolicy(J, b"\0" * 120 + b"\1" + b"\0" * 7, 128, 3), "EINVAL", "set memory policy", "MPOL_INTERLEAVE 960"),
    (op.LabelFilesystem(J, b"a:b:c", INIT, "/dev/mqueue"), "EBADF", "label filesystem", "/dev/mqueue"),
    (op.NewFilesystem(J, b"nonefs", (), INIT, 0), "ENODEV", "new filesystem", "nonefs"),
    (op.NewFilesystem(J, b"nonefs", (), INIT, 0, "/data"), "ENODEV", "new filesystem", "/data"),
    (op.NewTmpfs(J, b"tests", (b"none",), INIT, 0), "EINVAL", "new tmpfs", "tests"),
    (op.SetMountAttributes(J, INIT, 1, 0, 0, 0), "EBADF", "set mount attributes", None),
    (op.SetUnlockedAttributes(J, INIT, 1, 0, 0, 0, "/data"), "EBADF", "set unlocked attributes", "/data"),
    (op.PivotRoot(J, INIT, "/srv/root"), "EBADF", "pivot root", "/srv/root"),
    (op.SwitchRoot(J, INIT, "/srv/root"), "EBADF", "switch root", "/srv/root"),
    (op.AttachMount(J, b"/x", INIT, 0), "EBADF", "attach mount", "/x"),
    (op.MakeDirectory(J, TOO_LONG, 0o755), "ENAMETOOLONG", "make directory", "x" * 300 + "/y"),
    (op.MakeMountPoint(J, TOO_LONG, 1), "ENAMETOOLONG", "make mount point", "x" * 300 + "/y"),
    (op.MakeNode(J, TOO_LONG, 0o10600, 0, 0, 0), "ENAMETOOLONG", "make node", "x" * 300 + "/y"),
    (op.MakeNode(J, NONE, 0o10600, 0, 0, 0, flags.NODE_EXISTS), "ENOENT", "make node", "/does/not/exist"),
    (op.MakeLink(J, TOO_LONG, b"y", 0), "ENAMETOOLONG", "make link", "x" * 300 + "/y"),
    (op.SetHostname(J, LONG), "EINVAL", "set hostname", "x" * 70),
    (op.SetDomainname(J, LONG), "EINVAL", "set domainname", "x" * 70),
    (op.AwaitStart(J, INIT), "EBADF", "await start", None),
    (op.ChangeDirectory(J, b"does-not-exist", 0), "ENOENT", "change directory", "does-not-exist"),
    (op.SetRlimit(J, 7, 2, 1), "EINVAL", "set rlimit", "RLIMIT_NOFILE"),
    (op.RefuseStart(J), "ENODATA", "refuse start", None),
    (op.FindProgram(J, (NONE,), ()), "ENOENT", "execute program", "/does/not/exist"),
    (op.FindProgram(J, (b"passwd",), (b"PATH=/none:/etc",)), "EACCES", "execute program", "passwd"),
    (op.FindProgram(J, (b"/etc",), ()), "EACCES", "execute program", "/etc"),
    (op.InstallFilter(J, b"\0" * 8, 8, 0, 0, flags.FILTER_BEFORE_START), "EINVAL", "install filter", None),
    (op.InstallFilter(J, b"\0" * 7, 7, 0, 0, flags.FILTER_BEFORE_START), "EBADMSG", "install filter", None),
    (op.ExecuteProgram(J, (NONE,), ()), "ENOENT", "execute program", "/does/not/exist"),
    (op.FindProgram(J, (b"passwd",), (b"PATH=/none:/etc:/usr",)), "EACCES", "execute program", "passwd"),
]
ROWS = [(where, *row) for where, rows in (("host", HOST_ROWS), ("child", CHILD_ROWS), ("init", INIT_ROWS)) for row in rows]


def run(plan: Plan) -> None:
    null = os.open("/dev/null", os.O_RDWR)
    try:
        spawned = native.spawn(encode(plan), "", (null, null, null))
        spawned.follow(native.MESSAGE_EXECUTING)
        spawned.discard()
    finally:
        os.close(null)


@pytest.mark.conformance(57)
@pytest.mark.parametrize(("where", "operation", "errno_name", "step", "path"), ROWS,
                         ids=[f"{row[0]}-{type(row[1]).__name__}" for row in ROWS])
def test_a_failure_says_everything(where: str, operation: Operation, errno_name: str, step: str, path: str | None) -> None:
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
    assert (error.step, error.path, error.errno_name, error.json_path) == (step, path, errno_name, J)
    assert [line for line in left if " cgroups: " not in line] == []


def test_time_offsets_that_cannot_be_opened() -> None:
    """Of what a whole container makes before other calls would fail."""
    plan = Plan((), (), (OPEN_TIME_OFFSETS, END), 0, None, 0, 1)
    with pytest.raises(SetupError) as caught:
        Fault("openat2", "EACCES").during(lambda: run(plan))
    assert (caught.value.step, caught.value.path, caught.value.errno_name) == ("open time offsets", "/proc/self/timens_offsets", "EACCES")


# What a bundle asks for that cannot be done, and system calls that fail in the thread that creates it and in its init:
# operation, changes of the bundle, fault, path, errno, JSON path.
NAMED = {"linux": {"namespaces": namespaces(*NAMESPACES, "user"), **MAPS}}
PROC = default_config()["mounts"][:1]
BOUND = [*PROC, {"destination": "/tmp", "source": "/tmp", "options": ["bind", "nosuid"]}]
NOTHING_MASKED = {"maskedPaths": [], "readonlyPaths": []}
TMPFS = {"destination": "/tmp", "type": "tmpfs"}
MAPPED = {"destination": "/tmp", "source": "/tmp", "options": ["bind", "idmap"],
          "uidMappings": [{"containerID": 0, "hostID": 7654321, "size": 321}], "gidMappings": [{"containerID": 0, "hostID": 1, "size": 1}]}
Row = tuple[type[Operation], dict[str, Any], Fault | None, str | None, str, str | None]
BUNDLES: list[Row] = [
    (op.NewFilesystem, {"mounts": with_mounts({"destination": "/a/../data", "type": "nonefs"})}, None, "/data", "ENODEV", "$.mounts[7]"),
    (op.NewTmpfs, {"mounts": with_mounts({"destination": "data", "type": "tmpfs", "options": ["nonsense=1"]})}, None, "/data",
     "EINVAL", "$.mounts[7]"),
    # mount_setattr of one mount: the bind mount's own attributes are the first
    (op.SetMountAttributes, {"mounts": BOUND, "root": {"readonly": False}}, Fault("mount_setattr", "EPERM", {2: 0x1000}), "/tmp",
     "EPERM", "$.mounts[1].options"),
    # the init's: the file system is filled first
    (op.SetMountAttributes, {"mounts": [*PROC, {"destination": "/tmp", "type": "tmpfs", "options": ["ro"]}], "linux": NOTHING_MASKED,
                             "root": {"readonly": False}}, Fault("mount_setattr", "EPERM", {2: 0x1000}), "/tmp", "EPERM",
     "$.mounts[1].options"),
    (op.SetMountAttributes, {"mounts": PROC, "linux": NOTHING_MASKED}, Fault("mount_setattr", "EPERM", {2: 0x1000}), "/", "EPERM",
     "$.root.readonly"),
    (op.MapMountIds, {"mounts": with_mounts({**MAPPED, "source": "/proc"})}, None, "/tmp", "EINVAL", "$.mounts[7].options[1]"),
    # of what is mounted in the container, so that the host does it at the init's word
    (op.MapOfferedMount, {"mounts": with_mounts({**MAPPED, "source": "../rootfs/proc"}), **NAMED}, None, "/tmp", "EINVAL",
     "$.mounts[7].options[1]"),
    (op.SetAttributesAt, {"mounts": with_mounts({"destination": "/etc", "options": ["remount", "nosuid"]})}, None, "/etc", "EINVAL",
     "$.mounts[7].options"),
    (op.ReconfigureFilesystem, {"mounts": with_mounts(TMPFS, {"destination": "/tmp", "options": ["remount", "size=none"]})}, None, "/tmp",
     "EINVAL", "$.mounts[8].options"),
    # a remount with MS_I_VERSION, and MS_RELATIME, which the mount has
    (op.CountVersions, {"mounts": with_mounts({**TMPFS, "options": ["iversion"]})}, Fault("mount", "EPERM", {3: 32 | 1 << 21 | 1 << 23}),
     "/tmp", "EPERM", "$.mounts[7].options"),
    (op.CopyUp, {"mounts": with_mounts({**TMPFS, "destination": "/etc", "options": ["tmpcopyup"]})}, Fault("ftruncate", "EIO"), "/etc",
     "EIO", "$.mounts[7].options[0]"),
    (op.PivotRoot, {}, Fault("pivot_root", "EINVAL"), "{rootfs}", "EINVAL", "$.root.path"),
    (op.JoinNamespace, {"linux": {"namespaces": namespaces("mount", user="/proc/self/ns/user")}, "hostname": None}, None, "user",
     "EINVAL", "$.linux.namespaces[1].path"),
    (op.MakeNode, {"linux": {"devices": [{"path": "/etc/passwd", "type": "c", "major": 1, "minor": 3}]}}, None, "/etc/passwd",
     "EEXIST", "$.linux.devices[0]"),
    (op.OpenTree, {"mounts": with_mounts({"destination": "/tmp", "source": "/none", "options": ["bind"]})}, None, "/none",
     "ENOENT", "$.mounts[7].source"),
    (op.OpenNamespace, {"linux": {"namespaces": namespaces("mount", network="/none")}, "hostname": None}, None, "/none",
     "ENOENT", "$.linux.namespaces[1].path"),
    (op.ReleaseChild, NAMED, Fault("sendto", "ENOBUFS", {2: 1, 3: 0x4000}), None, "ENOBUFS", None),
    (op.AwaitRelease, NAMED, Fault("read", "EIO", {2: 1}), None, "EIO", "$.linux.uidMappings"),
    (op.BecomeNamespaceRoot, NAMED, Fault("setresuid", "EAGAIN", {0: 0, 1: 0, 2: 0}), "0:0", "EAGAIN", "$.linux.uidMappings"),
    (op.UnshareNamespaces, {}, Fault("unshare", "ENOSPC", {0: flags.CLONE_NEWCGROUP}), "cgroup", "ENOSPC", "$.linux.namespaces"),
    (op.UnshareTimeNamespace, {"linux": {"namespaces": namespaces(*NAMESPACES, "time"),
                                         "timeOffsets": {"monotonic": {"secs": 2**62}}}}, None, "time", "ERANGE",
     "$.linux.timeOffsets"),
    (op.IsolatePropagation, {}, Fault("mount", "ENOMEM", {3: flags.MS_SLAVE | flags.MS_REC}), "/", "ENOMEM", None),
    (op.OpenProc, {"linux": {"sysctl": {"kernel.msgmax": "1"}}}, Fault("fsopen", "EMFILE"), "proc", "EMFILE", None),
    (op.WriteProc, {"linux": {"sysctl": {"kernel.msgmax": "-1"}}}, None, "sys/kernel/msgmax", "EINVAL",
     '$.linux.sysctl["kernel.msgmax"]'),
    (op.AttachMount, {"mounts": with_mounts({"destination": "/loop", "type": "tmpfs"})}, None, "/loop", "ELOOP",
     "$.mounts[7].destination"),
    (op.OpenConsole, {"process": {"terminal": True},
                      "mounts": [m for m in default_config()["mounts"] if m["destination"] != "/dev/pts"]}, None, None,
     "ENOENT", "$.process.terminal"),
    (op.MaskPath, {"linux": {"maskedPaths": ["/loop"]}}, None, "/loop", "ELOOP", "$.linux.maskedPaths[0]"),
    (op.ProtectPath, {"linux": {"readonlyPaths": ["/proc/sys", "/loop"]}}, None, "/loop", "ELOOP",
     "$.linux.readonlyPaths[1]"),
    (op.RaiseLoopback, {}, Fault("ioctl", "EPERM", {1: 0x8914}), "lo", "EPERM", None),  # SIOCSIFFLAGS
    (op.JoinSessionKeyring, {}, Fault("keyctl", "EDQUOT", {0: 1}), "_ses.p1", "EDQUOT", None),
    (op.ChangeDirectory, {"process": {"cwd": "/etc/passwd"}}, None, "/etc/passwd", "ENOTDIR", "$.process.cwd"),
    (op.OwnStdio, {"process": {"user": {"uid": 1000, "gid": 0}}}, Fault("fchown", "EIO", {1: 1000}), None, "EIO",
     "$.process.user.uid"),
    (op.SetBoundingCapabilities, {}, Fault("prctl", "EPERM", {0: 24}), None, "EPERM", "$.process.capabilities.bounding"),
    (op.SetIdentity, {"process": {"user": {"uid": 1000, "gid": 0}}}, Fault("setresuid", "EAGAIN", {0: 1000}), "1000:0", "EAGAIN",
     "$.process.user"),
    (op.SetCapabilities, {}, Fault("capset", "EPERM"), None, "EPERM", "$.process.capabilities"),
    # PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL
    (op.SetAmbientCapabilities, {}, Fault("prctl", "EACCES", {0: 47, 1: 4}), None, "EACCES",
     "$.process.capabilities.ambient"),
    (op.SetNoNewPrivileges, {}, Fault("prctl", "EINVAL", {0: 38}), None, "EINVAL", "$.process.noNewPrivileges"),
    (op.SetUmask, {"process": {"user": {"uid": 0, "gid": 0, "umask": 0o27}}}, Fault("umask", "ENOSYS", {0: 0o27}), None,
     "ENOSYS", "$.process.user.umask"),
    (op.ResetAffinity, {}, Fault("sched_setaffinity", "EPERM"), None, "EPERM", None),
    (SetPersonality, {"linux": {"personality": {"domain": "LINUX32"}}}, Fault("personality", "EPERM"), "LINUX32", "EPERM",
     "$.linux.personality"),
    (AwaitScheduling, {"process": {"scheduler": {"policy": "SCHED_BATCH"}}}, Fault("read", "EIO", {2: 1}), None, "EIO",
     "$.process.scheduler"),
    (op.RunHook, {"hooks": {"createContainer": [{"path": "/none"}]}}, None, "/none", "ENOENT", "$.hooks.createContainer[0].path"),
    *((op.RunHook, {"hooks": {kind: [{"path": "/bin/true"}]}}, fault, "/bin/true", fault.error, f"$.hooks.{kind}[0].path")
      for kind in ("prestart", "createContainer")
      for fault in (Fault("fcntl", "EPERM", {1: 1033}), Fault("setpgid", "EPERM"))),  # F_ADD_SEALS
    (op.AnnounceHooks, {"hooks": {"prestart": [{"path": "/bin/true"}]}}, Fault("sendto", "EIO", {2: ffi.sizeof("struct message")}), None,
     "EIO", "$.hooks"),
    (op.AnnounceNetwork, {"linux": {"netDevices": {"pyrt0": {}}}}, Fault("sendto", "EIO", {2: ffi.sizeof("struct message")}), None, "EIO",
     "$.linux.netDevices"),
    (op.StartSession, {}, Fault("setsid", "EPERM"), None, "EPERM", None),
    (op.AwaitStart, {}, Fault("getsockopt", "ENOBUFS", {2: 30}), None, "ENOBUFS", None),  # SO_ACCEPTCONN
]


def check(error: SetupError, operation: type[Operation], path: str | None, errno_name: str, json_path: str | None) -> None:
    step = operation.__name__[0].lower() + re.sub("[A-Z]", lambda found: f" {found[0].lower()}", operation.__name__[1:])
    assert (error.step, error.path, error.errno_name, error.json_path) == (step, path, errno_name, json_path), str(error)
    assert step in str(error) and errno_name in str(error) and (json_path or "") in str(error)


@pytest.mark.conformance(57)
@pytest.mark.parametrize("row", BUNDLES, ids=[f"{row[0].__name__}-{row[-1]}" for row in BUNDLES])
def test_a_bundle_that_fails_says_where(reachable: Lab, row: Row) -> None:
    operation = row[0]
    (reachable.rootfs / "loop").symlink_to("loop")
    with contextlib.ExitStack() as held:
        if operation is op.AnnounceNetwork:
            held.enter_context(pair("pyrt0", "pyrt0p"))
        check_bundle(reachable, row)


def check_bundle(reachable: Lab, row: Row) -> None:
    operation, changes, fault, path, errno_name, json_path = row
    with pytest.raises(SetupError) as raised:
        if fault is None:
            reachable.create("true", **changes)
        else:
            fault.during(lambda: reachable.create("true", **changes))
    if operation in (op.AwaitRelease, AwaitScheduling) and is_unified():  # who cloned it waits first, and is no operation
        assert (raised.value.step, raised.value.errno_name, raised.value.detail) == ("set up the process", errno_name, "wait for the caller")
    else:
        check(raised.value, operation, path and path.format(rootfs=reachable.rootfs), errno_name, json_path)
    assert not reachable.runtime.container_exists("p1")
    # without the fault, the same bundle works
    if fault is not None:
        assert reachable.run("echo fine", **changes).strip() == "fine"


def test_without_pivoting(lab: Lab) -> None:
    bundle = lab.bundle("echo fine")

    def create() -> None:
        lab.runtime.create_container("p1", bundle, StdioOptions(create_out=True), no_pivot=True)

    with pytest.raises(SetupError) as raised:
        Fault("chroot", "EPERM").during(create)
    check(raised.value, op.SwitchRoot, str(lab.rootfs), "EPERM", "$.root.path")
    create()
    lab.runtime.delete_container("p1", force=True)


@pytest.mark.conformance(58)
def test_a_container_without_a_process(lab: Lab) -> None:
    """It can be created; starting it says what is missing, and is its end as for every program that cannot be executed."""
    bundle = lab.bundle("true", process=None)
    lab.runtime.create_container("p1", bundle, StdioOptions())
    assert lab.runtime.get_container_state("p1").status == "created"
    with pytest.raises(InvalidBundleError) as raised:
        lab.runtime.start_container("p1")
    assert (raised.value.file, raised.value.json_path) == (f"{bundle}/config.json", "$.process")
    assert "is required" in raised.value.reason
    assert not lab.runtime.container_exists("p1")


def test_a_pid_namespace_that_has_ended(lab: Lab) -> None:
    """Its namespace can be entered, but no process can be made in it."""
    first = lab.sleeper("p2")
    namespace = os.open(f"/proc/{first}/ns/pid", os.O_RDONLY)
    lab.runtime.delete_container("p2", force=True)
    try:
        with pytest.raises(SetupError) as raised:
            lab.create("true", linux={"namespaces": namespaces("mount", pid=f"/proc/{os.getpid()}/fd/{namespace}")},
                       hostname=None)
    finally:
        os.close(namespace)
    check(raised.value, op.EnterPidNamespace, "pid", "ENOMEM", "$.linux.namespaces[1].path")
    assert not lab.runtime.container_exists("p1")


def test_a_user_that_a_joined_namespace_does_not_map(reachable: Lab) -> None:
    first = reachable.sleeper("p2", **NAMED)
    with pytest.raises(SetupError) as raised:
        reachable.create("true", linux={"namespaces": namespaces("mount", user=f"/proc/{first}/ns/user")}, hostname=None,
                         process={"user": {"uid": 70000, "gid": 0}},
                         mounts=[m for m in default_config()["mounts"] if m["type"] == "tmpfs"])
    check(raised.value, op.SetIdentity, "70000:0", "EINVAL", "$.process.user")
    assert not reachable.runtime.container_exists("p1")


# operations of an exec: process, fault, operation, path, errno, JSON path
EXEC: list[tuple[dict[str, Any], Fault | None, type[Operation], str | None, str, str | None]] = [
    ({}, Fault("close_range", "EMFILE", {2: 0}), op.EnterPidNamespace, "pid", "EMFILE", None),
    ({}, Fault("setsid", "EPERM"), op.StartSession, None, "EPERM", None),
    ({}, Fault("keyctl", "EDQUOT", {0: 1}), op.JoinSessionKeyring, "_ses.p1", "EDQUOT", None),
    ({"noNewPrivileges": True}, Fault("prctl", "EINVAL", {0: 38}), op.SetNoNewPrivileges, None, "EINVAL",
     "$.noNewPrivileges"),
    ({"user": {"uid": 0, "gid": 0, "umask": 0o27}}, Fault("umask", "ENOSYS", {0: 0o27}), op.SetUmask, None, "ENOSYS",
     "$.user.umask"),
    ({"user": {"uid": 4, "gid": 5}}, Fault("setresuid", "EAGAIN", {0: 4}), op.SetIdentity, "4:5", "EAGAIN", "$.user"),
    # of the size of its buffer, in which nothing else is read meanwhile (native/program.c)
    ({}, Fault("read", "EIO", {2: 6144}), op.SetHome, "/etc/passwd", "EIO", None),
    ({"cwd": "/none"}, None, op.ChangeDirectory, "/none", "ENOENT", "$.cwd"),
    ({"args": ["/none"]}, None, op.ExecuteProgram, "/none", "ENOENT", "$.args"),
    ({"args": ["/etc/passwd"]}, None, op.ExecuteProgram, "/etc/passwd", "EACCES", "$.args"),
    ({"execCPUAffinity": {"initial": "5000"}}, None, SetAffinity, "5000", "EINVAL", "$.execCPUAffinity.initial"),
    ({"execCPUAffinity": {"final": "5000-5002"}}, None, SetAffinity, "5000-5002", "EINVAL", "$.execCPUAffinity.final"),
    ({"terminal": True}, Fault("ioctl", "EIO", {1: 0x40045431}), op.OpenConsole, None, "EIO", "$.terminal"),  # TIOCSPTLCK
    ({"rlimits": [{"type": "RLIMIT_NOFILE", "soft": 2**60, "hard": 2**60}]}, None, op.SetRlimit, "RLIMIT_NOFILE", "EPERM",
     "$.rlimits[0]"),
]


@pytest.mark.parametrize("row", EXEC, ids=[f"{row[2].__name__}-{row[4]}" for row in EXEC])
def test_an_exec_that_fails_says_where(lab: Lab, row: tuple[dict[str, Any], Fault | None, type[Operation], str | None,
                                                           str, str | None]) -> None:
    process, fault, operation, path, errno_name, json_path = row
    pid = lab.sleeper()
    before = HostSnapshot.take(lab.root)
    process = {"args": ["/bin/true"], "cwd": "/", **process}

    def execute() -> int:
        return lab.runtime.exec_process("p1", process, StdioOptions())

    with pytest.raises(SetupError) as raised:
        if fault is None:
            execute()
        else:
            fault.during(execute)
    check(raised.value, operation, path, errno_name, json_path)
    assert HostSnapshot.take(lab.root).differences(before, ["p1"]) == []
    assert [found.pid for found in lab.runtime.get_all_container_processes("p1")] == [pid]
    assert lab.exec("echo fine").strip() == "fine"


def test_a_failure_after_ready_is_an_end(lab: Lab) -> None:
    """Nobody listens to the init between READY and start: what fails there is a container that has stopped."""
    Fault("accept4", "EMFILE").during(lambda: lab.create("true"))
    assert lab.runtime.wait_on_container("p1").exit_code == 127
    with pytest.raises(NotCreatedError):
        lab.runtime.start_container("p1")
    lab.runtime.delete_container("p1")


def test_every_operation_is_forced_to_fail() -> None:
    """Of every kind that native/abi.h has."""
    forced = {type(row[1]) for row in ROWS} | {row[0] for row in BUNDLES} | {row[2] for row in EXEC} | {type(OPEN_TIME_OFFSETS)}
    header = (Path(__file__).parents[2] / "native" / "abi.h").read_text()
    kinds = set(re.findall(r"\bOP_[A-Z_]+(?=[, ])", header.partition("enum operation_kind")[2].partition("};")[0]))
    assert len(kinds) > 50
    assert {"OP" + re.sub("[A-Z]", lambda found: f"_{found[0]}", cls.__name__).upper() for cls in forced} == kinds
