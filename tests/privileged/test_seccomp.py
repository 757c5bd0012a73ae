"""Filters of system calls in containers."""

from __future__ import annotations

import errno
import logging
import shutil
import signal
import struct
from pathlib import Path

import pytest
from calls import compile_caller
from filter_lab import ADMIN, MKDIR, fields, rule, seccomp, strict
from lab import MAPS, NAMESPACES, Lab, capabilities, namespaces
from test_exec_and_state import other

from pyruntime import NativeRuntime, StdioOptions
from pyruntime.errors import InitDiedError, SetupError
from pyruntime.runtimes.filters import DIRECTORY as FILTERS
from pyruntime.testing.bundles import without_pid_namespace

STATUS = ["/bin/grep", "-hE", "^(CapInh|CapPrm|CapEff|CapAmb|NoNewPrivs|Seccomp):", "/proc/self/status"]


@pytest.fixture
def caller(lab: Lab, tmp_path: Path) -> Lab:
    """The lab with `/bin/call` in its root file system."""
    shutil.copy(compile_caller(tmp_path), lab.rootfs / "bin" / "call")
    return lab


def test_without_a_filter(lab: Lab) -> None:
    lab.sleeper()
    assert fields(lab.run(STATUS, "p2"))["Seccomp"] == fields(lab.exec(STATUS))["Seccomp"] == 0


@pytest.mark.parametrize("user", [0, 1000])
@pytest.mark.parametrize("granted", [(), ("CAP_KILL",), ("CAP_KILL", "CAP_SYS_ADMIN")])
@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_a_filter_leaves_no_capability(lab: Lab, no_new_privileges: bool, granted: tuple[str, ...], user: int) -> None:
    """Installing it takes CAP_SYS_ADMIN without noNewPrivileges."""
    process = {"noNewPrivileges": no_new_privileges, "user": {"uid": user, "gid": 0}, **capabilities(*granted)}
    expected = fields(lab.run(STATUS, process=process))
    assert bool(expected["CapPrm"] & ADMIN) == ("CAP_SYS_ADMIN" in granted)
    filtered = {**expected, "Seccomp": 2}
    changes = seccomp("ALLOW", rule(MKDIR))
    assert fields(lab.run(STATUS, process=process, **changes)) == filtered
    lab.sleeper(process=process, **changes)
    assert fields(lab.exec(STATUS, **process)) == filtered


@pytest.mark.parametrize("user", [0, 1000])
def test_capabilities_that_are_not_stated(lab: Lab, user: int) -> None:
    """Those of the runtime for root, and none for others, with a filter as without."""
    process = {"noNewPrivileges": False, "user": {"uid": user, "gid": 0}, "capabilities": None}
    expected = fields(lab.run(STATUS, process=process))
    assert fields(lab.run(STATUS, process=process, **seccomp("ALLOW", rule(MKDIR)))) == {**expected, "Seccomp": 2}


@pytest.mark.parametrize("permitted", [(), ("CAP_SYS_ADMIN",)])
def test_admin_that_is_permitted_and_not_effective(lab: Lab, permitted: tuple[str, ...]) -> None:
    sets = {"bounding": ["CAP_SYS_ADMIN"], "permitted": list(permitted), "effective": [], "inheritable": ["CAP_SYS_ADMIN"],
            "ambient": []}
    process = {"noNewPrivileges": False, "user": {"uid": 1000, "gid": 0}, "capabilities": sets}
    expected = fields(lab.run(STATUS, process=process))
    assert fields(lab.run(STATUS, process=process, **seccomp("ALLOW", rule(MKDIR)))) == {**expected, "Seccomp": 2}


@pytest.mark.conformance(50)
def test_errno_and_allow(caller: Lab) -> None:
    changes = seccomp("ALLOW", rule(["mkdir"], errnoRet=errno.EXDEV), rule(["rmdir"]), rule(["getpid"], errnoRet=0))
    script = "call 83; call 84; call 39; call 79"  # mkdir, rmdir, getpid, getcwd
    assert caller.run(script, **changes).split() == [str(-errno.EXDEV), str(-errno.EPERM), "0", str(-errno.ERANGE)]
    caller.sleeper(**changes)
    assert caller.exec(script).split() == [str(-errno.EXDEV), str(-errno.EPERM), "0", str(-errno.ERANGE)]


@pytest.mark.conformance(50)
def test_arguments(caller: Lab) -> None:
    changes = seccomp("ALLOW", rule(["dup"], "ERRNO", (0, "GE", 2**32), errnoRet=errno.EDOM),
                      rule(["dup2"], "ERRNO", (0, "EQ", 90), (1, "NE", 91), errnoRet=errno.EDOM))
    script = "call 32 90; call 32 0x100000000; call 33 90 91; call 33 90 92; call 33 89 92"
    assert caller.run(script, **changes).split() == ["-9", "-33", "-9", "-33", "-9"]


@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_a_profile_allows_what_the_program_needs_alone(caller: Lab, no_new_privileges: bool) -> None:
    """And capset, where a capability has to be taken away under the filter."""
    process = {"noNewPrivileges": no_new_privileges}
    more = [] if no_new_privileges else [rule(["capset"], "ALLOW")]
    assert caller.run(["/bin/call", "83"], process=process, **strict(*more)) == "-1\n"
    assert caller.run(["call", "83"], process=process, **strict(*more)) == "-1\n"


def test_new_calls_do_not_exist(caller: Lab) -> None:
    """Whatever the default is: programs go on with an older call."""
    changes = strict(rule(["faccessat2"]))
    assert caller.run(["/bin/call", "439"], **changes) == "-1\n"
    assert caller.run(["/bin/call", "440"], **changes) == "-38\n"
    assert caller.run(["/bin/call", "5000"], **changes) == "-38\n"


def test_a_filter_that_does_not_allow_to_drop_a_capability(caller: Lab) -> None:
    caller.create(["/bin/call", "83"], process={"noNewPrivileges": False}, **strict(rule(["sendmsg"], "ALLOW")))
    with pytest.raises(SetupError, match="capset, which the filter has to allow without noNewPrivileges") as caught:
        caller.runtime.start_container("p1")
    assert (caught.value.step, caught.value.json_path, caught.value.errno) == ("install filter", "$.linux.seccomp", errno.EPERM)
    assert not caller.runtime.container_exists("p1")


@pytest.mark.parametrize("args", [["/absent"], ["absent"]])
def test_a_missing_program_is_told_before_the_filter_forbids_it(caller: Lab, args: list[str]) -> None:
    caller.create(args, **strict())
    with pytest.raises(SetupError) as caught:
        caller.runtime.start_container("p1")
    assert (caught.value.step, caught.value.path, caught.value.errno) == ("execute program", args[0], errno.ENOENT)
    caller.sleeper(**seccomp("ALLOW", rule(["sendmsg"])))
    with pytest.raises(SetupError) as caught:
        caller.exec(args, noNewPrivileges=True)
    assert (caught.value.step, caught.value.path, caught.value.errno, caught.value.json_path) == (
        "execute program", args[0], errno.ENOENT, "$.args")


def test_a_missing_interpreter_is_told_where_the_filter_ends_who_looks(caller: Lab) -> None:
    script = caller.rootfs / "bin" / "script"
    script.write_text("#!/absent\n")
    script.chmod(0o755)
    looking = seccomp("ALLOW", rule(["faccessat2", "faccessat", "newfstatat", "fstat", "statx"], "KILL_PROCESS"))
    caller.create(["script"], process={"noNewPrivileges": True}, **looking)
    with pytest.raises(SetupError, match="exec script: no such file or directory, though it is there") as caught:
        caller.runtime.start_container("p1")
    assert (caught.value.step, caught.value.path, caught.value.errno) == ("execute program", "script", errno.ENOENT)


def test_exec_without_no_new_privileges_needs_more(caller: Lab) -> None:
    """The process that sets it up is under the filter while it enters the pid namespace; nothing is left where it cannot tell."""
    caller.sleeper(**seccomp("ALLOW", rule(["sendmsg"])))
    with pytest.raises(InitDiedError, match="it exited with 127"):
        caller.exec(["/bin/call", "39"])
    assert int(caller.exec(["/bin/call", "39"], noNewPrivileges=True)) > 1
    caller.runtime.delete_container("p1", force=True)
    caller.sleeper(**seccomp("ALLOW", rule(["clone"]), rule(["clone3", "close_range", "openat2"], errnoRet=errno.ENOSYS)))
    with pytest.raises(SetupError, match="enter pid namespace 'pid': clone: EPERM"):
        caller.exec(["/bin/call", "39"])


@pytest.mark.conformance(50)
def test_a_filter_that_forbids_the_program(caller: Lab) -> None:
    """Nobody can be told why: it ends as a shell that does not find a program does."""
    caller.create(["/bin/call", "83"], **seccomp("ALLOW", rule(["execve", "sendmsg"])))
    caller.runtime.start_container("p1")
    assert caller.runtime.wait_on_container("p1").exit_code == 127
    caller.runtime.delete_container("p1")
    caller.create(["/bin/call", "83"], **seccomp("ALLOW", rule(["execve", "sendmsg", "exit_group", "exit"])))
    caller.runtime.start_container("p1")
    assert caller.runtime.wait_on_container("p1").signal in (signal.SIGILL, signal.SIGTRAP, signal.SIGSEGV)
    caller.runtime.delete_container("p1")
    caller.create(["/bin/call", "83"], **seccomp("ALLOW", rule(["execve"], errnoRet=errno.EUCLEAN)))
    with pytest.raises(SetupError) as caught:
        caller.runtime.start_container("p1")
    assert (caught.value.step, caught.value.path, caught.value.errno) == ("execute program", "/bin/call", errno.EUCLEAN)


@pytest.mark.conformance(50)
@pytest.mark.parametrize("action", ["KILL", "KILL_THREAD", "KILL_PROCESS", "TRAP"])
@pytest.mark.parametrize("how", ["init", "exec"])
def test_killed(caller: Lab, action: str, how: str) -> None:
    changes = seccomp("ALLOW", rule(["mkdir"], action))
    if how == "init":
        text, state = caller.run_state(["/bin/call", "83"], **changes)
    else:
        caller.sleeper(**changes)
        pid = caller.runtime.exec_process("p1", {"args": ["/bin/call", "83"], "cwd": "/"}, StdioOptions(create_out=True))
        text, state = caller.read("p1", pid), caller.runtime.wait_on_process("p1", pid)
    assert (text, state.signal, state.exit_code) == ("", signal.SIGSYS, 128 + signal.SIGSYS)


@pytest.mark.conformance(50)
def test_trap_can_be_handled(lab: Lab) -> None:
    """SIGSYS with the call's number: a shell tells by which signal a program ended."""
    assert lab.run("mkdir /tmp/x; echo $?", **seccomp("ALLOW", rule(MKDIR, "TRAP"))) == f"{128 + signal.SIGSYS}\n"


@pytest.mark.conformance(50)
def test_log_and_trace(caller: Lab) -> None:
    """What is logged is done; without a tracer a traced call does not exist."""
    changes = seccomp("ALLOW", rule(["getppid"], "LOG"), rule(["mkdir"], "TRACE", errnoRet=7), flags=["SECCOMP_FILTER_FLAG_LOG"])
    assert caller.run("call 110; call 83", **changes).split()[1] == str(-errno.ENOSYS)
    assert int(caller.run(["/bin/call", "110"], **changes)) == 0


@pytest.mark.conformance(50)
@pytest.mark.parametrize("flags", [None, [], ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]])
def test_flags(caller: Lab, flags: list[str] | None) -> None:
    assert caller.run(["/bin/call", "83"], **seccomp("ALLOW", rule(["mkdir"]), flags=flags)) == "-1\n"


@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_without_a_pid_namespace_and_with_a_joined_one(caller: Lab, no_new_privileges: bool) -> None:
    process = {"noNewPrivileges": no_new_privileges}
    changes = seccomp("ALLOW", rule(["mkdir"]))
    shared = {"linux": {**changes["linux"], **without_pid_namespace()}}
    assert caller.run(["/bin/call", "83"], process=process, **shared) == "-1\n"
    first = caller.sleeper("p2")
    joined = {"linux": {**changes["linux"], "namespaces": namespaces("network", "ipc", "uts", "mount", "cgroup", pid=f"/proc/{first}/ns/pid")}}
    assert caller.run(["/bin/call", "83"], process=process, **joined) == "-1\n"
    caller.sleeper(process=process, **joined)
    assert caller.exec(["/bin/call", "83"], noNewPrivileges=no_new_privileges) == "-1\n"


def test_nothing_waits_with_a_capability_that_it_is_not_to_have(lab: Lab) -> None:
    """Where others could trace it; in a pid namespace of its own it does, without using it."""
    first = lab.sleeper("p2")
    for changes, permitted, filters in (
            ({"namespaces": namespaces("network", "ipc", "uts", "mount", "cgroup", pid=f"/proc/{first}/ns/pid")}, 0, 2),
            (without_pid_namespace(), 0, 2), ({}, ADMIN, 0)):
        pid = lab.create(["/bin/true"], process={"noNewPrivileges": False, **capabilities("CAP_KILL")},
                         linux={**seccomp("ALLOW", rule(MKDIR))["linux"], **changes})
        status = dict(line.split(":\t") for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
        assert int(status["CapPrm"], 16) == 1 << 5 | permitted
        assert int(status["CapEff"], 16) == 1 << 5
        assert int(status["Seccomp"]) == filters
        lab.runtime.start_container("p1")
        assert lab.runtime.wait_on_container("p1").exit_code == 0
        lab.runtime.delete_container("p1")


@pytest.mark.conformance(50)
def test_in_a_user_namespace(reachable: Lab) -> None:
    changes = seccomp("ALLOW", rule(MKDIR))
    for no_new_privileges in (True, False):
        linux = {**changes["linux"], **MAPS, "namespaces": namespaces("user", *NAMESPACES)}
        process = {"noNewPrivileges": no_new_privileges}
        assert fields(reachable.run(STATUS, process=process, linux=linux))["Seccomp"] == 2
        reachable.sleeper(process=process, linux=linux)
        assert fields(reachable.exec(STATUS, noNewPrivileges=no_new_privileges))["Seccomp"] == 2
        reachable.runtime.delete_container("p1", force=True)


@pytest.mark.conformance(50)
def test_unknown_names_are_warned_of(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "pyruntime"):
        lab.run(["/bin/true"], **seccomp("ALLOW", rule(["later_call", *MKDIR])))
    (record,) = caplog.records
    assert record.getMessage().endswith("config.json: system calls that libseccomp does not know have no rules in the filter: later_call")


def test_another_process_executes_under_the_filter(caller: Lab) -> None:
    caller.sleeper(**seccomp("ALLOW", rule(["mkdir"], errnoRet=errno.EXDEV)))
    code = ("pid = rt.exec_process('p1', {'args': ['/bin/call', '83'], 'cwd': '/'}, StdioOptions(create_out=True))\n"
            "print(rt.get_stdio_pipes('p1', pid).out.read()); rt.wait_on_process('p1', pid); rt.delete_process('p1', pid)")
    assert other(caller, code) == f"b'{-errno.EXDEV}\\n'\n"


def test_a_damaged_program_is_not_executed(caller: Lab) -> None:
    """What another runtime object left is taken while it is whole."""
    changes = seccomp("ALLOW", rule(["mkdir"], errnoRet=errno.EXDEV))
    bundle = caller.bundle(["/bin/call", "83"], **changes)
    (file,) = ((caller.root / FILTERS).iterdir() if caller.run(["/bin/call", "83"], **changes) else [])
    content = file.read_bytes()
    for damage in (content, content.replace(struct.pack("=I", 0x50000 | errno.EXDEV), struct.pack("=I", 0x7FFF0000)), b""):
        file.write_bytes(damage)
        runtime = NativeRuntime(str(caller.root))
        pid = runtime.create_container("p1", bundle, StdioOptions(create_out=True))
        runtime.start_container("p1")
        out = runtime.get_stdio_pipes("p1", pid).out
        assert out is not None and out.read() == b"%d\n" % -errno.EXDEV
        runtime.wait_on_container("p1")
        runtime.delete_container("p1")
        assert file.read_bytes() == content
