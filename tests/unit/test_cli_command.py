"""What is made of the messages of runc, crun and our own command line; the messages are theirs, word by word."""

from __future__ import annotations

import errno

import pytest

from pyruntime.errors import RuntimeCommandError, SetupError
from pyruntime.runtimes.cli_command import CommandFailedError, Scratch, explain_failure, says_exists, says_not_found

RUNC = "runc create failed: unable to start container process: "
STEPS = [
    (RUNC + 'exec: "/no": stat /no: no such file or directory', "execute program", "/no", errno.ENOENT),
    (RUNC + 'exec: "no": executable file not found in $PATH', "execute program", "no", errno.ENOENT),
    (RUNC + 'exec: "/etc/x": permission denied', "execute program", "/etc/x", errno.EACCES),
    (RUNC + "error during container init: mkdir /etc/x: not a directory", "change directory", "/etc/x", errno.ENOTDIR),
    (RUNC + 'chdir to cwd ("/etc/x") set in config.json failed: not a directory', "change directory", "/etc/x",
     errno.ENOTDIR),
    (RUNC + "unable to setup user: cannot set uid to unmapped user in user namespace", "set identity", None, errno.EINVAL),
    ("executable file `/no` not found in $PATH: No such file or directory", "execute program", "/no", errno.ENOENT),
    ("open executable: Permission denied", "execute program", None, errno.EACCES),
    ("chdir `/etc/x`: Not a directory", "change directory", "/etc/x", errno.ENOTDIR),
    ("find program '/no' ($.process.args): ENOENT: No such file or directory", "execute program", "/no", errno.ENOENT),
    ("execute program 'no' ($.args): EACCES: Permission denied", "execute program", "no", errno.EACCES),
    ("change directory '/etc/x' ($.process.cwd): open: ENOTDIR: Not a directory", "change directory", "/etc/x", errno.ENOTDIR),
    ("set identity '5000:0' ($.process.user): setresuid: EINVAL: Invalid argument", "set identity", None, errno.EINVAL),
    ("cannot setresuid to 5000: Invalid argument", "set identity", None, errno.EINVAL),
]


@pytest.mark.parametrize(("message", "step", "path", "number"), STEPS)
def test_step(message: str, step: str, path: str | None, number: int) -> None:
    error = explain_failure(CommandFailedError(["runc"], 1, message), "/etc/x")
    assert isinstance(error, SetupError)
    assert (error.step, error.path, error.errno, error.detail) == (step, path, number, message)


@pytest.mark.parametrize("message", [
    "anything else", RUNC + "error during container init: mkdir /proc/x: not a directory"])
def test_unknown_failure(message: str) -> None:
    error = explain_failure(CommandFailedError(["runc", "create"], 3, message), "/etc/x")
    assert isinstance(error, RuntimeCommandError)
    assert (error.arguments, error.exit_code, error.message) == (["runc", "create"], 3, message)


def test_what_state_and_create_say() -> None:
    assert says_not_found("container does not exist")
    assert says_not_found("error opening file `/run/crun/c9/status`: No such file or directory")
    assert not says_not_found("invalid character 'b' looking for beginning of object key string")
    assert says_exists("runc create failed: container with given ID already exists")
    assert says_exists("container `c1` already exists")


def test_last_error_of_the_log() -> None:
    with Scratch() as scratch:
        assert scratch.read_error() == ""
        with open(scratch.log, "w") as log:
            log.write('{"level":"error","msg":"first"}\nnot json\n{"level":"error","msg":"last"}\n[]\n'
                      '{"level":"info","msg":"bye"}\n')
        assert scratch.read_error() == "last"
