"""The command line without containers: arguments, errors, exit codes, and what is said where; with a MockRuntime."""

from __future__ import annotations

import argparse
import errno
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyruntime import MockRuntime, StdioOptions
from pyruntime.cli.arguments import COMMANDS, UsageError, parse_command, parse_global
from pyruntime.cli.failures import CommandError, explain
from pyruntime.cli.life_cycle import signal_number
from pyruntime.cli.main import main
from pyruntime.cli.streams import PidFile
from pyruntime.errors import ContainerNotFoundError, HookFailedError, InvalidBundleError, SetupError
from pyruntime.spec import load_spec
from pyruntime.testing import make_bundle
from pyruntime.versions import NEWEST_SPEC

Call = Callable[..., tuple[int, str, str]]


def parse(*arguments: str) -> argparse.Namespace:
    options, rest = parse_global(arguments)
    parse_command(options, rest)
    return options


def test_what_conmon_passes() -> None:
    options = parse("--systemd-cgroup", "--log-format=json", "--log", "/l", "create", "--bundle", "/b", "--pid-file", "/p", "--no-pivot",
                    "--no-new-keyring", "--preserve-fds", "2", "--console-socket", "/s", "c1")
    assert (options.systemd_cgroup, options.log_format, options.log, options.bundle, options.pid_file) == (True, "json", "/l", "/b", "/p")
    assert (options.no_pivot, options.no_new_keyring, options.preserve_fds, options.console_socket, options.id) == (True, True, 2, "/s", "c1")


def test_what_containerd_passes() -> None:
    options = parse("--root", "/r", "--log", "/l", "--log-format", "json", "exec", "--process", "/p", "--console-socket", "/s", "--detach",
                    "--pid-file", "/pid", "c1")
    assert (options.root, options.process, options.console_socket, options.detach, options.command) == ("/r", "/p", "/s", True, [])
    options = parse("--root", "/r", "kill", "--all", "c1", "9")
    assert (options.all, options.id, options.signal) == (True, "c1", "9")


def test_what_engines_pass_for_checkpoints() -> None:
    options = parse("--root", "/r", "checkpoint", "--image-path", "/i", "--work-path", "/w", "--parent-path", "../p", "--tcp-established",
                    "--ext-unix-sk", "--shell-job", "--file-locks", "--manage-cgroups-mode", "soft", "--empty-ns", "network", "--lazy-pages",
                    "--status-fd", "5", "--leave-running", "--pre-dump", "c1")
    assert (options.image_path, options.work_path, options.parent_path, options.status_fd) == ("/i", "/w", "../p", 5)
    assert options.leave_running and options.pre_dump and options.ext_unix_sk and options.empty_ns == ["network"]
    options = parse("restore", "--bundle", "/b", "--image-path", "/i", "--detach", "--pid-file", "/p", "--console-socket", "/s", "--no-pivot",
                    "--no-subreaper", "--empty-ns", "network", "--lazy-pages", "c1")
    assert (options.bundle, options.image_path, options.pid_file, options.console_socket, options.detach) == ("/b", "/i", "/p", "/s", True)


def test_a_long_option_may_have_one_dash() -> None:
    """containerd's restore passes `-no-subreaper`; runc takes all of them."""
    options = parse("-root", "/r", "-log-format=json", "-systemd-cgroup", "restore", "-bundle", "/b", "-no-subreaper", "-image-path=/i", "c1")
    assert (options.root, options.log_format, options.systemd_cgroup) == ("/r", "json", True)
    assert (options.bundle, options.no_subreaper, options.image_path, options.id) == ("/b", True, "/i", "c1")
    # one letter is still itself, with its value behind it too, and several are still several
    options = parse("exec", "-td", "-eA=b", "-env", "C=d", "-u1000", "-p", "/p", "c1", "ls", "-root")
    assert (options.tty, options.detach, options.env, options.user, options.process) == (True, True, ["A=b", "C=d"], "1000", "/p")
    assert options.command == ["ls", "-root"]


def test_an_engine_finds_out_that_there_are_checkpoints(capfd: pytest.CaptureFixture[str]) -> None:
    """podman looks whether `checkpoint --help` succeeds."""
    with pytest.raises(SystemExit) as ended:
        main(["checkpoint", "--help"])
    assert ended.value.code == 0 and "--tcp-established" in capfd.readouterr().out


@pytest.mark.parametrize(("arguments", "said"), [
    (["checkpoint", "--page-server", "here", "c1"], "--page-server 'here' is not of the form ADDRESS:PORT"),
    (["checkpoint", "--page-server", "h:70000", "c1"], "is not of the form ADDRESS:PORT"),
    (["checkpoint", "--parent-path", "/earlier", "c1"], "--parent-path '/earlier' has to be relative to the image path"),
    (["checkpoint", "--image-path", "/i", "--parent-path", "../earlier", "c1"], "--parent-path '../earlier' is no directory, seen from '/i'"),
    (["checkpoint", "--empty-ns", "pid", "c1"], "--empty-ns 'pid': only a network namespace can be left empty"),
    (["restore", "--empty-ns", "pid", "c1"], "only a network namespace can be left empty"),
    (["restore", "--console-socket", "/s", "c1"], "--console-socket is for containers that the command does not wait for"),
    (["checkpoint", "--manage-cgroups-mode", "hard", "c1"], "invalid choice: 'hard'")])
def test_what_checkpoints_cannot_be_asked(arguments: list[str], said: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(arguments, new_runtime=lambda _: None) == 1  # type: ignore[arg-type,return-value]
    assert said in capfd.readouterr().err


TRUE, FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")


@pytest.mark.parametrize(("text", "value"), [*((text, True) for text in TRUE), *((text, False) for text in FALSE)])
def test_an_option_without_a_value_may_have_one(text: str, value: bool) -> None:
    """As runc takes it, which has it of Go's `flag`; the last one counts."""
    options = parse(f"--systemd-cgroup={text}", "--debug", f"--debug={text}", "run", f"--no-pivot={text}", f"-d={text}", "c1", f"--keep={text}")
    assert (options.systemd_cgroup, options.debug, options.no_pivot, options.detach, options.keep) == (value,) * 5
    assert parse("exec", f"--detach={text}", f"-tty={text}", "c1", "ls", "--detach=x").detach is value
    assert parse("--rootless", text, "list").rootless == parse(f"--rootless={text}", "list").rootless == str(value).lower()


@pytest.mark.parametrize("arguments", [
    ["--debug=2", "list"], ["--debug=", "list"], ["--rootless=yes", "list"], ["create", "--no-pivot=TrUe", "c1"], ["create", "--keep=1", "c1"],
    ["--log-format=TEXT", "list"]])
def test_values_that_runc_refuses_too(arguments: list[str]) -> None:
    with pytest.raises(UsageError):
        parse(*arguments)


def test_global_options_that_may_be_empty_or_are_for_runc() -> None:
    options = parse("--rootless", "", "--log-format", "", "--log", "", "--criu", "/usr/sbin/criu", "state", "c1")
    assert (options.rootless, options.log_format, options.log, options.id) == ("auto", "text", "", "c1")
    options = parse("--rootless=", "--log-format=", "-criu=/usr/sbin/criu", "-rootless=AUTO", "state", "c1")
    assert (options.rootless, options.log_format, options.id) == ("auto", "text", "c1")


def test_the_programs_arguments_are_its_own() -> None:
    options = parse("exec", "-t", "-e", "A=b", "c1", "ls", "-l", "--root", "--", "-x")
    assert (options.tty, options.env, options.id, options.command) == (True, ["A=b"], "c1", ["ls", "-l", "--root", "--", "-x"])


@pytest.mark.parametrize("command", ["start", "state", "delete", "pause", "resume", "ps"])
def test_an_id_that_begins_with_a_dash(command: str) -> None:
    assert parse(command, "--", "-c1").id == "-c1"


@pytest.mark.parametrize(("arguments", "code", "said"), [
    (["fly"], 3, "no command 'fly'"), (["state"], 1, "required: ID"), (["state", "c1", "c2"], 1, "unrecognized arguments: c2"),
    (["state", "-fast", "c1"], 1, "unrecognized arguments: -fast"), (["-fast", "state", "c1"], 1, "unrecognized arguments: -fast"),
    (["state", "--fast", "c1"], 1, "unrecognized arguments: --fast"), (["--fast", "state", "c1"], 1, "unrecognized arguments: --fast"),
    (["create", "--preserve-fds", "-1", "c1"], 1, "-1 is less than 0"),
    (["create", "--preserve-fds", "many", "c1"], 1, "'many' is not a number"),
    (["--log-format", "xml", "list"], 1, "invalid choice: 'xml'"), (["list", "--format", "xml"], 1, "invalid choice: 'xml'"),
    (["--root"], 1, "expected one argument"), (["--ro", "/r", "list"], 1, "--ro")])
def test_bad_usage(arguments: list[str], code: int, said: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == code
    shown = capfd.readouterr()
    assert shown.out == "" and said in shown.err and shown.err.splitlines()[-1].startswith("pyruntime: ")


def test_usage_error_is_logged(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log"
    assert main(["--log", str(log), "--log-format", "json", "kill"]) == 1
    record = json.loads(log.read_text())
    assert record["level"] == "error" and "ID" in record["msg"] and record["time"].endswith("Z")
    assert record["msg"] in capfd.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_function_and_help(command: str, capfd: pytest.CaptureFixture[str]) -> None:
    module, _, name = COMMANDS[command].handler.partition(":")
    assert callable(getattr(__import__(f"pyruntime.cli.{module}", fromlist=[name]), name))
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0 and f"usage: pyruntime {command}" in capfd.readouterr().out


def test_without_a_command_it_tells_which_there_are(capfd: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = capfd.readouterr().out
    assert all(f"\n  {command} " in shown for command in COMMANDS)


@pytest.mark.parametrize(("text", "number"), [("9", 9), ("KILL", 9), ("SIGKILL", 9), ("sigterm", 15), ("0", 0), ("64", 64), ("RTMIN", 34)])
def test_signals(text: str, number: int) -> None:
    assert signal_number(text) == number


@pytest.fixture
def mock(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Iterator[Call]:
    """Call a command on a MockRuntime with one running container, c1; returns exit code, output, errors."""
    runtime: Any = MockRuntime()
    bundle = make_bundle(tmp_path / "bundle", ["/bin/sleep", "1000"], annotations={"a.b": "c"})
    runtime.create_container("c1", str(bundle), StdioOptions())
    runtime.start_container("c1")
    capfd.readouterr()

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments, lambda options: runtime)
        shown = capfd.readouterr()
        return code, shown.out, shown.err

    yield call
    # or its program's thread and descriptors would end in the middle of another test
    for state in runtime.list_container_states():
        runtime.delete_container(state.id, force=True)


@pytest.mark.conformance(56)
def test_state(mock: Call, tmp_path: Path) -> None:
    code, out, err = mock("state", "c1")
    state = json.loads(out)
    assert (code, err, state["id"], state["status"], state["bundle"]) == (0, "", "c1", "running", f"{tmp_path}/bundle")
    assert state["annotations"] == {"a.b": "c"} and state["pid"] > 0 and state["ociVersion"] == "1.0.2"


@pytest.mark.parametrize(("uid", "owner"), [(0, "root"), (54321, "#54321"), (None, "")], ids=["name", "number", "gone"])
def test_list(mock: Call, monkeypatch: pytest.MonkeyPatch, uid: int | None, owner: str) -> None:
    """With the owner, as runc tells it."""
    def container_owner(self: MockRuntime, id: str) -> int:
        if uid is None:
            raise ContainerNotFoundError(id)
        return uid

    monkeypatch.setattr(MockRuntime, "container_owner", container_owner, raising=False)
    assert [(entry["id"], entry["owner"]) for entry in json.loads(mock("list", "--format", "json")[1])] == [("c1", owner)]
    assert mock("list", "-q")[1] == "c1\n"
    head, row = mock("list")[1].splitlines()
    assert head.split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"] and row.split()[2] == "running"
    assert row.split()[5:] == ([owner] if owner else [])


def test_ps(mock: Call) -> None:
    """As a table: see test_command_options.py."""
    pid = json.loads(mock("state", "c1")[1])["pid"]
    assert json.loads(mock("ps", "--format", "json", "c1")[1]) == [pid]


@pytest.mark.parametrize(("arguments", "code", "said"), [
    (["state", "c2"], 1, "container 'c2' does not exist"), (["start", "c1"], 1, "it is running, not created"),
    (["delete", "c1"], 1, "it is running, not stopped"), (["resume", "c1"], 1, "it is running, not paused"),
    (["kill", "c1", "FOO"], 1, "'FOO' is not a signal"), (["kill", "c1", "65"], 1, "'65' is not a signal"),
    (["kill", "c1", "-9"], 1, "'-9' is not a signal"), (["exec", "c1"], 255, "a program or --process"),
    (["exec", "--user", "root", "c1", "true"], 255, "user 'root' is not"),
    (["exec", "--user", "1:2:3", "c1", "true"], 255, "user '1:2:3' is not"),
    (["exec", "--process", "/no/file", "c1"], 255, "'/no/file': ENOENT: no such file or directory"),
    (["exec", "--process", "/no/file", "c1", "true"], 255, "--process tells the program already"),
    (["exec", "--console-socket", "/s", "c1", "true"], 255, "for detached processes with a terminal"),
    (["exec", "--detach", "--tty", "c1", "true"], 255, "cannot have a terminal without --console-socket"),
    (["state", "../c1"], 1, "invalid container id"), (["exec", "--preserve-fds", "900", "c1", "true"], 255, "is not open")])
def test_errors(mock: Call, arguments: list[str], code: int, said: str) -> None:
    found = mock(*arguments)
    assert (found[0], found[1]) == (code, "") and said in found[2]
    assert len([line for line in found[2].splitlines() if line.startswith("pyruntime: ")]) == 1


def test_killing_what_has_ended(mock: Call) -> None:
    """containerd knows by these words that there is nothing left to kill."""
    assert mock("kill", "c1", "KILL") == (0, "", "")
    while json.loads(mock("state", "c1")[1])["status"] != "stopped":
        pass
    code, _, err = mock("kill", "c1", "KILL")
    assert code == 1 and err.endswith(": ESRCH: no such process\n")
    assert mock("delete", "c1") == (0, "", "")


def test_deleting_what_is_not_there(mock: Call) -> None:
    assert mock("delete", "--force", "c2") == (0, "", "")
    assert mock("delete", "c2")[0] == 1
    assert mock("delete", "--force", "c1") == (0, "", "")
    assert mock("list", "-q") == (0, "", "")


def test_log_that_cannot_be_opened(mock: Call) -> None:
    assert mock("--log", "/no/directory/log", "list") == (
        1, "", "pyruntime: open log '/no/directory/log': ENOENT: no such file or directory\n")


def test_text_log(mock: Call, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("earlier\n")
    mock("--log", str(log), "state", "c2")
    earlier, line = log.read_text().splitlines()
    assert earlier == "earlier" and line.startswith('time="') and line.endswith("\" level=error msg=\"container 'c2' does not exist\"")


def test_errno_is_told_in_small_letters() -> None:
    """As Go has it: Docker's client looks for these very words."""
    assert explain(SetupError("find program", "x", 2, "$.process.args")) == (
        "find program 'x' ($.process.args): ENOENT: no such file or directory")
    hook = HookFailedError("/h", 2, "$.hooks.createRuntime[11].path", "")
    assert explain(hook) == ("error running createRuntime hook #11: run hook '/h' ($.hooks.createRuntime[11].path): "
                             "ENOENT: no such file or directory")
    assert explain(SetupError("find program", "x", 0, None, "Why")) == "find program 'x': Why"
    assert explain(FileNotFoundError(2, "", "/f")) == "'/f': ENOENT: no such file or directory"
    assert explain(OSError("AF_UNIX path too long")) == "AF_UNIX path too long"


@pytest.mark.parametrize(("error", "begins"), [
    (InvalidBundleError("/b/config.json", "$.linux.memoryPolicy.mode", "is required"), "invalid memory policy mode: /b/config.json: $"),
    (InvalidBundleError("/b/config.json", "$.linux.memoryPolicy.flags[1]", "is 'x'"), "invalid memory policy flag: /b/config.json: $"),
    (InvalidBundleError("/b/config.json", "$.linux.resources.memory", "is 'x'"), "/b/config.json: $"),
    (SetupError("look at listener", "/no", errno.ENOENT, "$.linux.seccomp.listenerPath"),
     "failed to connect with seccomp agent: look at listener '/no' ("),
    (SetupError("open tasks", "/no", errno.ENOENT, "$.linux.cgroupsPath"), "error adding pid to cgroup: open tasks '/no' ("),
    (SetupError("open tasks", "/no", errno.ENOENT, "$.linux.intelRdt"), "open tasks '/no' ("),
    (SetupError("write file", "/no", errno.ENOENT, '$.linux.resources.unified["io.max"]'), "invalid configuration: write file '/no' ("),
    (SetupError("write file", "/no", errno.EINVAL, '$.linux.resources.unified["io.max"]'), "write file '/no' ("),
    (SetupError("attach mount", "/no", errno.ENOENT, "$.mounts[0]"), "attach mount '/no' ("),
])
def test_words_that_logs_are_searched_for(error: Exception, begins: str) -> None:
    assert explain(error).startswith(begins)


def test_version(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    version, commit, spec = capfd.readouterr().out.splitlines()
    assert version == "pyruntime version 0.1.0" and spec == "spec: 1.3.0"
    assert re.fullmatch("commit: ([0-9a-f]{40}(-dirty)?|unknown)", commit)


def test_spec(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["spec", "--bundle", str(tmp_path)]) == 0
    written = (tmp_path / "config.json").read_bytes()
    assert load_spec(written).process.terminal is True  # type: ignore[union-attr]
    assert json.loads(written)["ociVersion"] == NEWEST_SPEC  # of which `pids.limit` may be 0
    assert main(["spec", "--bundle", str(tmp_path)]) == 1
    assert "exists already" in capfd.readouterr().err and (tmp_path / "config.json").read_bytes() == written


def test_features(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["features"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert (found["ociVersionMin"], found["ociVersionMax"]) == ("1.0.0", "1.3.0")
    assert {"bind", "rro", "rprivate", "nosymfollow", "remount", "iversion", "tmpcopyup", "idmap", "ridmap"} < set(found["mountOptions"])
    assert found["linux"]["mountExtensions"] == {"idmap": {"enabled": True}}
    assert found["linux"]["capabilities"][0] == "CAP_CHOWN" and "time" in found["linux"]["namespaces"]
    assert found["hooks"] == ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
    assert {"SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"} < set(found["linux"]["seccomp"]["archs"])
    assert "SCMP_ACT_NOTIFY" in found["linux"]["seccomp"]["actions"]
    assert found["annotations"]["org.pyruntime.checkpoint.enabled"] == "true"


@pytest.mark.conformance(33, 47, 63)
def test_features_of_network_devices_and_resctrl(capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever this host has."""
    assert main(["features"]) == 0
    found = json.loads(capfd.readouterr().out)["linux"]
    assert found["netDevices"] == {"enabled": True}
    assert found["intelRdt"] == {"enabled": True, "schemata": True, "monitoring": True}


def test_a_pid_file_that_cannot_be_in_its_place(tmp_path: Path) -> None:
    """Is found before there is a process, or, where somebody takes its place meanwhile, after."""
    (tmp_path / "pid").mkdir()
    with pytest.raises(CommandError, match="write pid file .*: EISDIR: is a directory"), PidFile(str(tmp_path / "pid")):
        raise AssertionError("entered")
    (tmp_path / "pid").rmdir()
    with pytest.raises(CommandError, match="write pid file .*: EISDIR: is a directory"), PidFile(str(tmp_path / "pid")) as file:
        (tmp_path / "pid").mkdir()
        file.write(7)
    assert [path.name for path in tmp_path.iterdir()] == ["pid"]


def test_a_pid_file_is_there_once_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "pid").write_text("an earlier one")
    with PidFile(str(tmp_path / "pid")) as file:
        assert (tmp_path / "pid").read_text() == "an earlier one"
        file.write(7)
        assert (tmp_path / "pid").read_text() == "7"
    with PidFile(str(tmp_path / "pid")):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["pid"] and (tmp_path / "pid").read_text() == "7"


def test_as_a_module() -> None:
    shown = subprocess.run([sys.executable, "-m", "pyruntime", "--version"], capture_output=True, text=True, check=True).stdout
    assert shown.startswith("pyruntime version ")


def test_usage_error_leads_to_the_help() -> None:
    with pytest.raises(UsageError) as raised:
        parse("state")
    assert str(raised.value) == "the following arguments are required: ID (see `pyruntime state --help`)"


@pytest.mark.parametrize(("arguments", "said"), [
    (["stat", "c1"], "no command 'stat': did you mean state?: there are create, "),
    (["zzz"], "no command 'zzz': there are create, "), (["zzz", "-h"], "No help topic for 'zzz': no such command: there are create, "),
    (["stat", "c1", "--help"], "No help topic for 'stat': no such command: did you mean state?: there are create, "),
    (["update", "--memry", "5M", "c1"], "unrecognized arguments: --memry: did you mean --memory? (see `pyruntime update --help`)"),
    (["update", "--memry=5M", "c1"], "unrecognized arguments: --memry=5M: did you mean --memory? (see"),
    (["kill", "--al"], "unrecognized arguments: --al: did you mean --all? (see `pyruntime kill --help`)"),
    (["--rot", "/r", "list"], "unrecognized arguments: --rot: did you mean --root? (see `pyruntime --help`)"),
    (["exec", "--ttyy", "c1", "ls"], "unrecognized arguments: --ttyy: did you mean --tty? (see"),
    (["state", "--qqqqq", "c1"], "unrecognized arguments: --qqqqq (see `pyruntime state --help`)"),
    (["state", "c1", "c2"], "unrecognized arguments: c2 (see"),
    (["help", "stat"], "No help topic for 'stat': no such command: did you mean state?")])
def test_what_was_meant(arguments: list[str], said: str, capfd: pytest.CaptureFixture[str]) -> None:
    """In one line, and the last option that was wrong is not the one that is told."""
    assert main(arguments) in (1, 3)
    out, err = capfd.readouterr()
    assert out == "" and err.startswith(f"pyruntime: {said}") and err.count("\n") == 1


_HELP = "NAME:\n  pyruntime - Open Container Initiative runtime\n\nusage: pyruntime [OPTION ...] COMMAND"
_HELP_OF_KILL = "NAME:\n  pyruntime kill - send a signal to a container's first process\n\nusage: pyruntime kill"


@pytest.mark.parametrize(("arguments", "begins"), [
    (["help"], _HELP), (["-h"], _HELP), (["help", "kill"], _HELP_OF_KILL), (["kill", "-h"], _HELP_OF_KILL)])
def test_ways_to_ask_for_help(arguments: list[str], begins: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0 and capfd.readouterr().out.startswith(begins)


@pytest.mark.parametrize(("arguments", "expected"), [
    (["kill", "c1", "--all", "9"], {"id": "c1", "all": True, "signal": "9"}), (["kill", "c1", "9", "-a"], {"all": True, "signal": "9"}),
    (["delete", "c1", "--force"], {"id": "c1", "force": True}), (["delete", "--force", "--", "c1"], {"id": "c1", "force": True}),
    (["--", "state", "c1"], {"id": "c1"}), (["--root=/r", "create", "c1", "--bundle=/b"], {"id": "c1", "root": "/r", "bundle": "/b"}),
    (["exec", "--", "c1", "ls", "-l"], {"id": "c1", "command": ["ls", "-l"]}),
    (["exec", "c1", "--", "ls", "-l"], {"id": "c1", "command": ["ls", "-l"]}),
    (["exec", "c1", "ls", "--", "-l"], {"id": "c1", "command": ["ls", "--", "-l"]}),
    (["exec", "-d", "c1", "-d"], {"id": "c1", "detach": True, "command": ["-d"]}),
    (["ps", "c1", "-o", "pid"], {"id": "c1", "ps_options": ["-o", "pid"]})])
def test_where_options_may_stand(arguments: list[str], expected: dict[str, Any]) -> None:
    """Before the id and after it; behind `exec ID` all belongs to the program, and a first -- ends the options."""
    options = vars(parse(*arguments))
    assert {name: options[name] for name in expected} == expected
