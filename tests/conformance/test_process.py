"""`process` as the program sees it: rows 11 to 17 and 62."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import Lab
from probing import Answers, Probe

from pyruntime import StdioOptions
from pyruntime.errors import InvalidBundleError

pytestmark = pytest.mark.privileged
PATH = "PATH=/bin"


def ask(probe: Probe, how: str, *questions: str, **process: Any) -> Answers:
    """Of a container's first process, or of one that is executed in another container."""
    process = {"env": [PATH], **process}
    if how == "init":
        return probe.run(*questions, process=process)
    if not probe.lab.runtime.container_exists("p1"):
        probe.lab.sleeper()
    return probe.exec(*questions, **process)


both = pytest.mark.parametrize("how", ["init", "exec"])


@pytest.mark.conformance(11, 12)
@both
def test_terminal(probe: Probe, how: str) -> None:
    """It controls the session that the program leads, is all three streams, and has the size that was asked for."""
    answers = ask(probe, how, "terminal", "process", "descriptors", terminal=True, consoleSize={"height": 33, "width": 101})
    terminal = answers.terminal
    assert (terminal.height, terminal.width, terminal.controls) == (33, 101, True)
    assert terminal.name.startswith(("/dev/pts/", "/dev/console"))
    assert {descriptor.target for descriptor in answers.descriptors.values()} == {terminal.name} and set(answers.descriptors) == {0, 1, 2}
    assert answers.process.session == answers.process.pid == answers.process.group


@pytest.mark.conformance(11, 12)
@both
def test_without_a_terminal(probe: Probe, how: str) -> None:
    answers = ask(probe, how, "terminal", consoleSize={"height": 33, "width": 101})
    assert answers.failure("terminal") == "ENOTTY"


@pytest.mark.conformance(13)
@both
def test_environment_and_directory(probe: Probe, how: str) -> None:
    """Nothing of the caller's; HOME is the user's where it is not stated."""
    (probe.lab.rootfs / "tmp" / "here").mkdir()
    os.environ["OF_THE_CALLER"] = "1"
    try:
        answers = ask(probe, how, "environment", "cwd", env=[PATH, "A=1", "B=", "C=x=y", "HOME=/h"], cwd="/tmp/here")
        assert answers.environment == [PATH, "A=1", "B=", "C=x=y", "HOME=/h"]
        assert answers.text("cwd") == "/tmp/here"
        assert set(ask(probe, how, "environment", env=[PATH]).environment) == {PATH, "HOME=/"}
    finally:
        del os.environ["OF_THE_CALLER"]


@pytest.mark.conformance(13)
@both
def test_program_is_found_as_by_execvp(probe: Probe, how: str) -> None:
    """In the process's own PATH, in its order, past what may not be executed; a name with a slash is a path from the working directory."""
    lab = probe.lab
    for name in ("first", "second", "third"):
        (lab.rootfs / name).mkdir()
    (lab.rootfs / "first" / "found").mkdir()
    (lab.rootfs / "second" / "found").write_text("no program\n")
    for name in ("third", "tmp"):
        (lab.rootfs / name / "found").hardlink_to(lab.rootfs / "bin" / "probe")

    def command_of(args: list[str], **process: Any) -> list[str]:
        process = {"args": args, "env": ["PATH=/absent:/first:/second:/third:/bin"], **process}
        if how == "init":
            shown = lab.run(args, process=process)
        else:
            if not lab.runtime.container_exists("p1"):
                lab.sleeper()
            shown = lab.exec(args, **process)
        return Answers(shown).text("file:/proc/self/cmdline").split("\0")

    assert command_of(["found", "file:/proc/self/cmdline"]) == ["found", "file:/proc/self/cmdline"]
    assert command_of(["tmp/found", "file:/proc/self/cmdline"]) == ["tmp/found", "file:/proc/self/cmdline"]
    assert command_of(["./found", "file:/proc/self/cmdline"], cwd="/tmp") == ["./found", "file:/proc/self/cmdline"]


@pytest.mark.conformance(13)
@both
@pytest.mark.parametrize("cwd", ["tmp", "./", ""])
def test_a_relative_directory_is_refused(lab: Lab, how: str, cwd: str) -> None:
    with pytest.raises(InvalidBundleError) as raised:
        if how == "init":
            lab.create("true", process={"cwd": cwd})
        else:
            lab.sleeper()
            lab.exec("true", cwd=cwd)
    assert str(raised.value.json_path).endswith(".cwd")


@pytest.mark.conformance(14)
@both
def test_user(probe: Probe, how: str) -> None:
    user = {"uid": 1234, "gid": 2345, "umask": 0o027, "additionalGids": [7, 5, 2**31]}
    answers = ask(probe, how, "ids", "umask", user=user)
    assert answers.ids.uid == (1234,) * 4 and answers.ids.gid == (2345,) * 4
    assert (sorted(answers.ids.groups), answers.number("umask")) == ([5, 7, 2**31], 0o027)


@pytest.mark.conformance(14)
@both
def test_user_of_whom_nothing_more_is_said(probe: Probe, how: str) -> None:
    """None of the caller's groups; the file mode mask is what runc and crun have, whatever the caller's is."""
    mask, groups = os.umask(0o007), os.getgroups()
    try:
        os.setgroups([77])
        answers = ask(probe, how, "ids", "umask", user={"uid": 0, "gid": 0})
    finally:
        os.umask(mask)
        os.setgroups(groups)
    assert (answers.ids.groups, answers.number("umask")) == ([], 0o022)


@pytest.mark.conformance(15)
@both
def test_capabilities(probe: Probe, how: str) -> None:
    """Of another user than root, who has what is ambient."""
    sets = {"bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"], "permitted": ["CAP_CHOWN", "CAP_KILL"], "effective": ["CAP_KILL"],
            "inheritable": ["CAP_CHOWN", "CAP_KILL"], "ambient": ["CAP_KILL"]}
    caps = ask(probe, how, "caps", user={"uid": 1, "gid": 1}, capabilities=sets).caps
    assert (caps.bounding, caps.inheritable, caps.ambient) == (set(sets["bounding"]), set(sets["inheritable"]), {"CAP_KILL"})
    # capabilities(7): a program without capabilities of its own has the ambient ones
    assert caps.permitted == caps.effective == {"CAP_KILL"}


# a value for each that the program can live with, below what anybody has
LIMITS = {"AS": 1 << 40, "CORE": 4096, "CPU": 1000, "DATA": 1 << 36, "FSIZE": 1 << 30, "LOCKS": 100, "MEMLOCK": 8192, "MSGQUEUE": 4096,
          "NICE": 0, "NOFILE": 99, "NPROC": 5000, "RSS": 1 << 40, "RTPRIO": 0, "RTTIME": 10**6, "SIGPENDING": 50, "STACK": 1 << 20}


@pytest.mark.conformance(16)
@both
def test_every_limit(probe: Probe, how: str) -> None:
    limits = [{"type": f"RLIMIT_{name}", "soft": value // 2, "hard": value} for name, value in LIMITS.items()]
    assert ask(probe, how, "rlimits", rlimits=limits).rlimits == {
        f"RLIMIT_{name}": (value // 2, value) for name, value in LIMITS.items()}


@pytest.mark.conformance(16)
@both
def test_limits_that_nobody_states_are_the_callers(probe: Probe, how: str) -> None:
    if how == "exec":
        probe.lab.sleeper(process={"rlimits": []})
    found = ask(probe, how, "rlimits", rlimits=[]).rlimits
    own = {name: resource.getrlimit(getattr(resource, name)) for name in found if hasattr(resource, name)}
    assert len(own) >= 14
    # the runtime raises its own soft limit of descriptors for nobody
    assert {name: found[name] for name in own} == {name: (soft % 2**64, hard % 2**64) for name, (soft, hard) in own.items()}


@pytest.mark.conformance(16)
@pytest.mark.parametrize(("limits", "json_path"), [
    ([{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2}, {"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2}], "$.process.rlimits[1].type"),
    ([{"type": "RLIMIT_NO_SUCH", "soft": 1, "hard": 2}], "$.process.rlimits[0].type"),
    ([{"type": "RLIMIT_NOFILE", "soft": 3, "hard": 2}], "$.process.rlimits[0].soft")], ids=["twice", "unknown", "soft above hard"])
def test_limits_that_cannot_be(lab: Lab, limits: list[dict[str, Any]], json_path: str) -> None:
    with pytest.raises(InvalidBundleError) as raised:
        lab.create("true", process={"rlimits": limits})
    assert raised.value.json_path == json_path
    assert not lab.runtime.container_exists("p1")


@contextlib.contextmanager
def own_oom_score(value: int) -> Iterator[None]:
    """Of this process; it may be lowered again to where it was."""
    file = Path("/proc/self/oom_score_adj")
    before = file.read_text()
    file.write_text(str(value))
    try:
        yield
    finally:
        file.write_text(before)


@pytest.mark.conformance(17)
@both
def test_oom_score(probe: Probe, how: str) -> None:
    """What is not stated is the caller's; 0 is a value."""
    before = int(Path("/proc/self/oom_score_adj").read_text())
    with own_oom_score(before + 123):
        assert ask(probe, how, "oom_score_adj").number("oom_score_adj") == before + 123
        if before == 0:
            assert ask(probe, how, "oom_score_adj", oomScoreAdj=0).number("oom_score_adj") == 0
        assert ask(probe, how, "oom_score_adj", oomScoreAdj=before + 1).number("oom_score_adj") == before + 1


@pytest.mark.conformance(17)
@both
def test_no_new_privileges(probe: Probe, how: str) -> None:
    for value in (True, False):
        assert ask(probe, how, "no_new_privs", noNewPrivileges=value).number("no_new_privs") == value


@pytest.mark.conformance(62)
@both
@pytest.mark.parametrize("preserved", [0, 2])
def test_descriptors(probe: Probe, how: str, preserved: int) -> None:
    """The streams and what is to be passed on; nothing else of the caller's, though it is inheritable."""
    lab = probe.lab
    if how == "exec":
        lab.sleeper()
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(open(lab.directory / name, "w")) for name in ("three", "four")]
        saved = [os.dup(fd) if os.path.exists(f"/proc/self/fd/{fd}") else None for fd in (3, 4)]
        directory = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
        try:
            for number, file in zip((3, 4), files, strict=True):
                os.dup2(file.fileno(), number)
            os.set_inheritable(directory, True)
            stdio = StdioOptions(create_out=True, preserve_fds=preserved)
            question = "descriptors"
            answers = probe.run(question, stdio=stdio) if how == "init" else probe.exec(question, stdio=stdio)
        finally:
            os.close(directory)
            for number, copy in zip((3, 4), saved, strict=True):
                if copy is None:
                    os.close(number)
                else:
                    os.dup2(copy, number)
                    os.close(copy)
    found = answers.descriptors
    assert set(found) == set(range(3 + preserved))
    assert found[0].target == found[2].target == "/dev/null" and found[1].target.startswith("pipe:")
    # opened before the container was there, so their names are not of it
    assert [found[fd].target.rpartition("/")[2] for fd in range(3, 3 + preserved)] == ["three", "four"][:preserved]
