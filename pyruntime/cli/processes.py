"""exec and ps."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import msgspec

from pyruntime.cli.called import read_as_runc
from pyruntime.cli.failures import CommandError
from pyruntime.cli.kept import plan_file
from pyruntime.cli.states import print_json
from pyruntime.cli.streams import PidFile, console_socket, hand_over_terminal, inherited, pidfd_socket, terminal_of
from pyruntime.errors import InvalidBundleError, NotRunningError
from pyruntime.interface import Status
from pyruntime.spec import Capabilities, ConsoleSize, Process, User, decode_process, load_bundle

if TYPE_CHECKING:
    from pyruntime.cli.plain import Options
    from pyruntime.interface import StdioOptions
    from pyruntime.runtimes.native import NativeRuntime


def execute(runtime: NativeRuntime, options: Options) -> int:
    """The process's exit code; 0 for a detached one once it runs."""
    stdio = inherited(options)
    file = plan_file(options)
    process = _read_process(options) if options.process is not None else _changed_process(runtime, options)
    if process.terminal and options.detach and not options.console_socket:
        raise CommandError("a detached process cannot have a terminal without --console-socket")
    if options.console_socket and not (process.terminal and options.detach):
        raise CommandError("--console-socket is for detached processes with a terminal")
    with contextlib.ExitStack() as held:
        signals = None
        if not options.detach:
            from pyruntime.native.signals import CaughtSignals

            signals = held.enter_context(CaughtSignals())
        pid_file = held.enter_context(PidFile(options.pid_file))
        console = console_socket(options, held)
        pidfds = pidfd_socket(options, held)
        pid = _execute(runtime, options, process, stdio)
        try:
            terminal = terminal_of(runtime, options.id, pid)
            if options.detach:
                hand_over_terminal(terminal, console)
            if pidfds is not None:
                pidfds.send(pid)
            pid_file.write(pid)
            if file is not None and not options.ignore_paused and not process.terminal:
                runtime.keep_plan(file, options.id, process)
            if signals is None:
                runtime.forget_reaped_processes(options.id)
                return 0
            from pyruntime.cli.attached import follow, relay_of

            with relay_of(terminal) as relay:
                follow(runtime, options.id, pid, signals, relay)
        except BaseException:
            runtime.kill_process(options.id, pid, 9)
            _forget(runtime, options.id, pid)
            raise
        return _forget(runtime, options.id, pid)


def _forget(runtime: NativeRuntime, id: str, pid: int) -> int:
    """The exit code of a process that ends."""
    exit_state = runtime.wait_on_process(id, pid)
    runtime.delete_process(id, pid)
    return exit_state.exit_code


def _execute(runtime: NativeRuntime, options: Options, process: Process, stdio: StdioOptions) -> int:
    """The pid."""
    try:
        return runtime.exec_process(options.id, process, stdio, cgroups=_cgroups(options.cgroup), allows_created=True,
                                    allows_paused=options.ignore_paused)
    except NotRunningError as error:
        if error.status != Status.PAUSED:
            raise
        raise CommandError(f"{error}: cannot exec in a paused container without --ignore-paused") from error


def _cgroups(given: list[str]) -> dict[str, str]:
    """By controller; `memory:a` and `cpu,cpuacct:b` are some of cgroup v1, `c` all."""
    found = {}
    for text in given:
        controllers, _, path = text.rpartition(":")
        found.update(dict.fromkeys(controllers.split(","), path))
    return found


def _read_process(options: Options) -> Process:
    if options.command:
        raise CommandError("--process tells the program already, so none can be given besides")
    with open(options.process, "rb") as file:
        data = read_as_runc(file.read())
    try:
        return decode_process(data)
    except InvalidBundleError as error:
        raise type(error)(options.process, error.json_path, error.reason) from error


def _changed_process(runtime: NativeRuntime, options: Options) -> Process:
    """The container's own process with the program and what else is given."""
    if not options.command:
        raise CommandError("a program or --process has to be given")
    bundle = runtime.get_container_state(options.id).bundle_path
    own = load_bundle(bundle).process
    process = own if own is not None else Process(cwd="/", user=User(uid=0, gid=0))
    user = process.user
    if options.user is not None:
        user = msgspec.structs.replace(user, **_ids(options.user))
    if options.additional_gids:
        user = msgspec.structs.replace(user, additional_gids=(*user.additional_gids, *options.additional_gids))
    given = {variable.partition("=")[0] for variable in options.env}
    env = (*(variable for variable in process.env if variable.partition("=")[0] not in given), *options.env)
    capabilities = process.capabilities
    if options.cap:
        held = capabilities if capabilities is not None else Capabilities()
        capabilities = msgspec.structs.replace(held, **{
            name: (*getattr(held, name), *options.cap) for name in ("bounding", "effective", "permitted")},
            # inheritable ones are never added; what the container's are already can be ambient too
            ambient=(*held.ambient, *(name for name in options.cap if name in held.inheritable)))
    return decode_process(msgspec.structs.replace(
        process, args=tuple(options.command), env=env, user=user, capabilities=capabilities, terminal=options.tty,
        cwd=options.cwd or process.cwd, apparmor_profile=options.apparmor or process.apparmor_profile,
        selinux_label=options.process_label or process.selinux_label, no_new_privileges=options.no_new_privs or process.no_new_privileges,
        console_size=_console_size() if options.tty else None))


def _console_size() -> ConsoleSize | None:
    """As large as the terminal that this command runs in, if it runs in one."""
    try:
        size = os.get_terminal_size(0)
    except OSError:
        return None
    return ConsoleSize(height=size.lines, width=size.columns)


def _ids(text: str) -> dict[str, int]:
    """`1000` and `1000:100`. Raises CommandError."""
    numbers = text.split(":")
    if len(numbers) > 2 or not all(number.isascii() and number.isdigit() for number in numbers):
        raise CommandError(f"user {text!r} is not of the form UID or UID:GID")
    return dict(zip(("uid", "gid"), map(int, numbers), strict=False))


def ps(runtime: NativeRuntime, options: Options) -> int:
    """As JSON a list of pids, as other runtimes print it; as a table the lines about them of this machine's ps(1)."""
    pids = [process.pid for process in runtime.get_running_container_processes(options.id)]
    if options.format == "json":
        print_json(pids, indent=0)
        return 0
    import subprocess  # few commands need it

    try:
        # what is loaded into this program is nothing for that one
        environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
        told = subprocess.run(["ps", *(options.ps_options or ["-ef"])], capture_output=True, text=True, errors="replace", check=False,
                              env=environment)
    except FileNotFoundError as error:
        raise CommandError("there is no program 'ps' to make a table: --format json needs none") from error
    head, *lines = told.stdout.splitlines() or [""]
    if told.returncode != 0:
        raise CommandError(f"'ps' ended with {told.returncode}: {told.stderr.strip()}")
    columns = head.split()
    if "PID" not in columns:
        raise CommandError("'ps' was given options with which it does not tell pids")
    at = columns.index("PID")
    print(head)
    for line in lines:
        if line.split()[at] in map(str, pids):
            print(line)
    return 0
