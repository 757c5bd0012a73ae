"""checkpoint and restore."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from pyruntime.checkpoint import CgroupsMode, CheckpointOptions, RestoreOptions
from pyruntime.checkpoint.options import check_parent_path
from pyruntime.cli.failures import CommandError
from pyruntime.cli.life_cycle import deleted_on_failure
from pyruntime.cli.streams import PidFile, console_socket, hand_over_terminal, terminal_of
from pyruntime.interface import StdioOptions

if TYPE_CHECKING:
    from pyruntime.cli.plain import Options
    from pyruntime.runtimes.native import NativeRuntime


def checkpoint(runtime: NativeRuntime, options: Options) -> int:
    """Returns once all is written; the container is then gone from among the running ones, unless it is to go on. As with runc it has
    been deleted, unless only its memory was written or it goes on."""
    _check_parent_path(options)
    goes_on = options.leave_running or options.pre_dump
    chosen = CheckpointOptions(
        work_path=options.work_path, parent_path=options.parent_path, leave_running=options.leave_running, pre_dump=options.pre_dump,
        link_remap=options.link_remap, tcp_skip_in_flight=options.tcp_skip_in_flight, page_server=_page_server(options.page_server),
        status_fd=options.status_fd, **_permissions(options))
    runtime.checkpoint_container(options.id, options.image_path, chosen)
    if not goes_on:
        runtime.delete_container(options.id, force=True)
    return 0


def restore(runtime: NativeRuntime, options: Options) -> int:
    """The exit code of the container's program; 0 for a detached one once it runs."""
    if options.console_socket and not options.detach:
        raise CommandError("--console-socket is for containers that the command does not wait for")
    chosen = RestoreOptions(work_path=options.work_path, lsm_profile=options.lsm_profile, lsm_mount_context=options.lsm_mount_context,
                            **_permissions(options))
    stdio = StdioOptions(in_fd=0, out_fd=1, err_fd=2)
    with contextlib.ExitStack() as held:
        pid_file = held.enter_context(PidFile(options.pid_file))
        console = console_socket(options, held)
        if options.detach:
            pid = runtime.restore_container(options.id, options.bundle, options.image_path, stdio, chosen)
            with deleted_on_failure(runtime, options.id):
                hand_over_terminal(terminal_of(runtime, options.id, pid), console)
                pid_file.write(pid)
            return 0
        from pyruntime.cli.attached import follow, relay_of
        from pyruntime.native.signals import CaughtSignals

        signals = held.enter_context(CaughtSignals())
        pid = runtime.restore_container(options.id, options.bundle, options.image_path, stdio, chosen)
        with deleted_on_failure(runtime, options.id), relay_of(terminal_of(runtime, options.id, pid)) as relay:
            pid_file.write(pid)
            follow(runtime, options.id, pid, signals, relay)
            exit_state = runtime.wait_on_container(options.id)
        runtime.delete_container(options.id)
    return exit_state.exit_code


def _permissions(options: Options) -> dict[str, Any]:
    if any(kind != "network" for kind in options.empty_ns):
        raise CommandError(f"--empty-ns {options.empty_ns[0]!r}: only a network namespace can be left empty")
    return {"tcp_established": options.tcp_established, "external_unix_sockets": options.ext_unix_sk, "shell_job": options.shell_job,
            "file_locks": options.file_locks, "empty_network": bool(options.empty_ns), "lazy_pages": options.lazy_pages,
            "auto_dedup": options.auto_dedup,
            "cgroups_mode": CgroupsMode(options.manage_cgroups_mode) if options.manage_cgroups_mode else None}


def _check_parent_path(options: Options) -> None:
    if options.parent_path is None:
        return
    try:
        check_parent_path(options.image_path, options.parent_path)
    except ValueError as error:
        raise CommandError(f"--parent-path {error}") from error


def _page_server(text: str | None) -> tuple[str, int] | None:
    if text is None:
        return None
    address, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise CommandError(f"--page-server {text!r} is not of the form ADDRESS:PORT")
    return address, int(port)
