"""Whoever is notified of a container's system calls is sent the filter's descriptor (runtime-spec, config-linux.md "The Container Process
State")."""

from __future__ import annotations

import array
import errno
import os
import stat
import struct
from collections.abc import Callable

import msgspec

from pyruntime.errors import SetupError
from pyruntime.interface import Status
from pyruntime.plan.seccomp import JSON_PATH
from pyruntime.state import ContainerRecord
from pyruntime.state.record import FilterRecord

PassOn = Callable[[int, int], None]

SEND_TIMEOUT_S = 10
_PATH = f"{JSON_PATH}.listenerPath"
_STEP = "pass on listener"
_SECCOMP_FD = "anon_inode:seccomp notify"


def check_listener(filter: FilterRecord | None) -> None:
    """Raises SetupError unless there is a socket. It is not connected to before there is something to send."""
    if filter is None or filter.listener_path is None:
        return
    try:
        if not stat.S_ISSOCK(os.stat(filter.listener_path).st_mode):
            raise SetupError("look at listener", filter.listener_path, errno.ENOTSOCK, _PATH)
    except OSError as error:
        raise SetupError("look at listener", filter.listener_path, error.errno or 0, _PATH) from error


def passing_on(filter: FilterRecord | None, record: Callable[[], ContainerRecord], status: Status | str) -> PassOn | None:
    """Sends a filter's listener, and closes it; given with it is the pid of the process that has the filter, -1: the container's init. It
    raises SetupError. None if the filter has none."""
    return _passing_on(record, status) if filter is not None and filter.listener_path is not None else None


def passing_on_at_start(known: ContainerRecord | None, record: Callable[[], ContainerRecord]) -> PassOn | None:
    """The same. Who did not make the container would have to read its record to know whether there is a listener."""
    return passing_on(known.filter, record, Status.CREATED) if known is not None else _passing_on(record, Status.CREATED)


def _passing_on(record: Callable[[], ContainerRecord], status: Status | str) -> PassOn:
    def pass_on(listener: int, pid: int) -> None:
        try:
            _send(record(), status, listener, pid)
        finally:
            os.close(listener)
    return pass_on


def process_state(record: ContainerRecord, status: Status | str, pid: int) -> bytes:
    """The container process state in JSON."""
    state = {"ociVersion": record.oci_version, "id": record.id, "status": str(status), "pid": record.pid, "bundle": record.bundle_path,
             "annotations": record.annotations}
    told: dict[str, object] = {"ociVersion": record.oci_version, "fds": ["seccompFd"], "pid": record.pid if pid < 0 else pid, "state": state}
    if record.filter is not None and record.filter.listener_metadata is not None:
        told["metadata"] = record.filter.listener_metadata
    return msgspec.json.encode(told)


def _send(record: ContainerRecord, status: Status | str, listener: int, pid: int) -> None:
    import socket  # takes milliseconds, and few need it

    path = record.filter.listener_path if record.filter is not None else None
    # the process may be traced by another one of the container, which may say anything in its name
    if path is None or os.readlink(f"/proc/self/fd/{listener}") != _SECCOMP_FD:
        raise SetupError(_STEP, path, errno.EPERM, _PATH, "what the process has sent is no listener of a filter")
    data = process_state(record, status, pid)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
            # and not a timeout of Python's, with which a full queue is an error at once
            agent.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", SEND_TIMEOUT_S, 0))
            agent.connect(path)
            sent = agent.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [listener]))])
            if sent < len(data):  # one that has all may have closed its end, and is sent nothing more, not even nothing
                agent.sendall(data[sent:])
    except OSError as error:
        number = errno.ETIMEDOUT if error.errno == errno.EAGAIN else error.errno or 0
        raise SetupError(_STEP, path, number, _PATH) from error
