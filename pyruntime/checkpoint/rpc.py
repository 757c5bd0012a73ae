"""CRIU's protocol (criu.org/RPC; numbers of its images/rpc.proto): requests, notifications and responses over one socket.

The messages are described by tables and made by protobuf at run time: generated modules work with one version of it only, and an
application may need another.
"""

from __future__ import annotations

import functools
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

DUMP, RESTORE, PRE_DUMP, NOTIFY, FEATURE_CHECK, VERSION = 1, 2, 4, 6, 9, 10
# larger than any response
_MESSAGE_BYTES = 65536
_LABELS = {"?": 1, "!": 2, "*": 3}  # optional, required, repeated
_TYPES = {"int32": 5, "bool": 8, "string": 9, "uint32": 13}
# name: {field: (number, label and type)}
_MESSAGES: Mapping[str, Mapping[str, tuple[int, str]]] = {
    "page_server": {"address": (1, "?string"), "port": (2, "?int32")},
    "pair": {"key": (1, "!string"), "val": (2, "!string")},
    "inherited": {"key": (1, "!string"), "fd": (2, "!int32")},
    "cgroup_root": {"ctrl": (1, "?string"), "path": (2, "!string")},
    "opts": {
        "images_dir_fd": (1, "!int32"), "pid": (2, "?int32"), "leave_running": (3, "?bool"), "ext_unix_sk": (4, "?bool"),
        "tcp_established": (5, "?bool"), "evasive_devices": (6, "?bool"), "shell_job": (7, "?bool"), "file_locks": (8, "?bool"),
        "log_level": (9, "?int32"), "log_file": (10, "?string"), "ps": (11, "?page_server"), "notify_scripts": (12, "?bool"),
        "root": (13, "?string"), "parent_img": (14, "?string"), "track_mem": (15, "?bool"), "auto_dedup": (16, "?bool"),
        "work_dir_fd": (17, "?int32"), "link_remap": (18, "?bool"), "ext_mnt": (23, "*pair"), "cg_root": (25, "*cgroup_root"),
        "rst_sibling": (26, "?bool"), "inherit_fd": (27, "*inherited"), "manage_cgroups_mode": (34, "?int32"), "external": (37, "*string"),
        "empty_ns": (38, "?uint32"), "join_ns": (39, "*pair"), "freeze_cgroup": (44, "?string"), "tcp_skip_in_flight": (46, "?bool"),
        "lazy_pages": (48, "?bool"), "orphan_pts_master": (50, "?bool"), "lsm_profile": (53, "?string"), "lsm_mount_context": (63, "?string")},
    "features": {"mem_track": (1, "?bool"), "lazy_pages": (2, "?bool")},
    "request": {"type": (1, "!int32"), "opts": (2, "?opts"), "notify_success": (3, "?bool"), "features": (5, "?features")},
    "restored": {"pid": (1, "!int32")},
    "notification": {"script": (1, "?string"), "pid": (2, "?int32")},
    "response": {"type": (1, "!int32"), "success": (2, "!bool"), "restore": (4, "?restored"), "notify": (5, "?notification"),
                 "cr_errno": (7, "?int32"), "features": (8, "?features"), "cr_errmsg": (9, "?string")},
}


@functools.cache
def _classes() -> Mapping[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="pyruntime-criu.proto", package="pyruntime_criu", syntax="proto2")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            made: Any = message.field.add(name=field, number=number, label=_LABELS[kind[0]])
            if kind[1:] in _TYPES:
                made.type = _TYPES[kind[1:]]
            else:
                made.type, made.type_name = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE, f".pyruntime_criu.{kind[1:]}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"pyruntime_criu.{name}")) for name in _MESSAGES}


def encode_request(type: int, **fields: object) -> bytes:
    """fields: `opts` and `features` as mappings, lists of mappings for repeated messages."""
    request = _classes()["request"](type=type, **{name: value for name, value in fields.items() if value is not None})
    return bytes(request.SerializeToString())


def decode_response(data: bytes) -> Any:
    """Raises google.protobuf.message.DecodeError."""
    return _classes()["response"].FromString(data)


class Refused(Exception):
    """CRIU has answered that it failed, or ended without an answer; `errno` is what it says, 0 if nothing."""

    def __init__(self, errno: int, message: str) -> None:
        super().__init__(message)
        self.errno = errno
        self.message = message


class Connection:
    """The caller's end of the socket; closing it ends CRIU."""

    def __init__(self, wire: socket.socket) -> None:
        self._wire = wire

    def call(self, type: int, opts: Mapping[str, object] | None = None, features: Mapping[str, object] | None = None,
             on_notify: Callable[[str, int, Sequence[int]], None] | None = None) -> Any:
        """The response to a request.

        on_notify   is told a stage, a pid and the descriptors that were sent with it, which become its own. What it raises is raised
                    here, once CRIU was told that it failed and has taken back what it did.
        Raises Refused.
        """
        self._send(encode_request(type, opts=opts, features=features))
        failure: BaseException | None = None
        try:
            while True:
                response, descriptors = self._receive()
                if response.type != NOTIFY:
                    _close(descriptors)
                    break
                if on_notify is None or failure is not None:
                    _close(descriptors)
                else:
                    try:
                        on_notify(response.notify.script, response.notify.pid, descriptors)
                    except BaseException as error:
                        failure = error
                self._send(encode_request(NOTIFY, notify_success=failure is None))
        except Refused as refused:
            raise failure or refused from None
        if failure is not None:
            raise failure
        if not response.success:
            raise Refused(response.cr_errno, response.cr_errmsg)
        return response

    def _send(self, data: bytes) -> None:
        try:
            self._wire.sendall(data)
        except OSError as error:
            raise Refused(0, "criu has ended") from error

    def _receive(self) -> tuple[Any, list[int]]:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._wire, _MESSAGE_BYTES, 4, socket.MSG_CMSG_CLOEXEC)
        except OSError as error:
            raise Refused(0, "criu has ended") from error
        if not data:
            _close(descriptors)
            raise Refused(0, "criu has ended")
        return decode_response(data), descriptors


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
