"""The units of containers, by systemd's D-Bus interface (org.freedesktop.systemd1(5))."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pyruntime.cgroups.paths import Unit
from pyruntime.errors import SetupError, UnsupportedHostError
from pyruntime.host import read_host

if TYPE_CHECKING:
    from jeepney import MatchRule, Message
    from jeepney.io.blocking import DBusConnection

JOB_TIMEOUT_S = 30.0
_RUNS_SYSTEMD = "/run/systemd/system"  # sd_booted(3)
_BUS, _PATH, _MANAGER = "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"
_UNIT_EXISTS, _NO_SUCH_UNIT = f"{_BUS}.UnitExists", f"{_BUS}.NoSuchUnit"
_START = "ssa(sv)a(sa(sv))"
_CGROUPS_PATH = "$.linux.cgroupsPath"

# what begins the name of an annotation that states a property of a container's unit
PROPERTY_ANNOTATION = "org.systemd.property."
# refused by systemd whatever its value is
_NO_PROPERTY = "NoSuchProperty"
# (name, (D-Bus signature, value))
Property = tuple[str, tuple[str, Any]]


class UnitError(SetupError):
    """What systemd says; `name` is the D-Bus name of the error, '' for a job that failed."""

    def __init__(self, step: str, unit: str | None, error: int, json_path: str | None, detail: str, name: str = "") -> None:
        super().__init__(step, unit, error, json_path, detail)
        self.name = name


def check_systemd() -> None:
    """Raises UnsupportedHostError where systemd is not the first process."""
    if not os.path.isdir(_RUNS_SYSTEMD):
        raise UnsupportedHostError(f"the systemd cgroup driver needs systemd, which does not run here: there is no {_RUNS_SYSTEMD}")


def control_group() -> str:
    """systemd's own cgroup, from the hierarchies' roots: '' for the system's, but for one in a container; a user's manager is in that
    user's `user@UID.service`. Raises SetupError."""
    with _connected() as manager:
        return str(manager.call("Get", "ss", (_MANAGER, "ControlGroup"), interface="org.freedesktop.DBus.Properties")[1]).rstrip("/")


def start_unit(unit: Unit, properties: Sequence[Property], json_paths: Mapping[str, str]) -> None:
    """Start a new transient unit; it runs when this returns.

    json_paths   by name, of the properties that config.json states
    Raises SetupError, also if one of that name is active.
    """
    with _connected() as manager:
        try:
            _start_anew(manager, unit.name, properties)
        except UnitError as error:
            # that a unit exists is told before its properties are looked at, and that its job failed after that
            if error.name not in ("", _UNIT_EXISTS):
                manager.blame(error, unit.name, [property for property in properties if property[0] in json_paths], json_paths)
            raise


def _start_anew(manager: _Manager, unit: str, properties: Sequence[Property]) -> None:
    try:
        manager.start(unit, properties)
    except UnitError as error:
        if error.name != _UNIT_EXISTS:
            raise
        # one that has failed keeps its name until it is reset
        with contextlib.suppress(UnitError):
            manager.reset_failed(unit)
        manager.start(unit, properties)


def set_unit_properties(unit: str, properties: Sequence[Property]) -> None:
    """Change a unit until the next boot. Raises SetupError."""
    with _connected() as manager:
        manager.call("SetUnitProperties", "sba(sv)", (unit, True, list(properties)), subject=unit)


def stop_unit(unit: str) -> None:
    """Stop a unit and forget it; one that is gone is fine. Raises SetupError."""
    with _connected() as manager:
        for method in (manager.stop, manager.reset_failed):
            try:
                method(unit)
            except UnitError as error:
                if error.name != _NO_SUCH_UNIT:
                    raise


class _Manager:
    """systemd's manager object, over one connection."""

    def __init__(self, connection: DBusConnection) -> None:
        self._connection = connection
        self._deadline = time.monotonic() + JOB_TIMEOUT_S
        self._removed: MatchRule | None = None

    def call(self, method: str, signature: str | None = None, body: tuple[Any, ...] = (), *, interface: str = _MANAGER,
             subject: str | None = None) -> Any:
        """The reply's first value. Raises UnitError."""
        from jeepney import DBusAddress, MessageType, new_method_call

        message = new_method_call(DBusAddress(_PATH, _BUS, interface), method, signature, body)
        try:
            reply = self._connection.send_and_get_reply(message, timeout=self._left_s())
        except (OSError, TimeoutError) as error:
            raise self._failure(method, subject, error) from error
        if reply.header.message_type is MessageType.error:
            raise _refusal(method, subject, reply)
        return reply.body[0] if reply.body else None

    def run_job(self, method: str, signature: str, body: tuple[Any, ...]) -> None:
        """Call what queues a job, and wait until it is done. Raises UnitError."""
        signals: deque[Message] = deque()
        unit = body[0]
        with self._connection.filter(self._removed_jobs(), queue=signals):
            job = self.call(method, signature, body, subject=unit)
            while True:
                try:
                    _, removed_job, _, result = self._connection.recv_until_filtered(signals, timeout=self._left_s()).body
                except (OSError, TimeoutError) as error:
                    raise self._failure(method, unit, error) from error
                if removed_job == job:
                    break
        if result != "done":
            raise UnitError(_step(method), unit, 0, _CGROUPS_PATH, f"systemd's job ended with {result!r}")

    def _removed_jobs(self) -> MatchRule:
        """Subscribe to the signals that tell of a job's end."""
        from jeepney import MatchRule, message_bus
        from jeepney.io.blocking import Proxy

        if self._removed is None:
            bus = Proxy(message_bus, self._connection, timeout=self._left_s())
            # anybody may send us a signal of that name
            (owner,) = bus.GetNameOwner(_BUS)
            self._removed = MatchRule(type="signal", sender=owner, interface=_MANAGER, member="JobRemoved", path=_PATH)
            bus.AddMatch(self._removed)
            self.call("Subscribe")
        return self._removed

    def start(self, unit: str, properties: Sequence[Property]) -> None:
        self.run_job("StartTransientUnit", _START, (unit, "replace", list(properties), []))

    def blame(self, error: UnitError, unit: str, properties: Iterable[Property], json_paths: Mapping[str, str]) -> None:
        """Raise it with the JSON path of the first of the properties that is refused; nothing if none is."""
        for property in properties:
            refusal = self.refusal_of(unit, property)
            if refusal is not None:
                name, (type, _) = property
                detail = f"property {name} of type {type!r}: {refusal.detail}"
                raise UnitError(error.step, unit, refusal.errno, json_paths[name], detail, refusal.name) from error

    def refusal_of(self, unit: str, property: Property) -> UnitError | None:
        """Why no unit of that name can have the property; None if one can. systemd looks at properties one by one, before it makes
        anything of them, and its answer seldom says which it is about."""
        try:
            self.call("StartTransientUnit", _START, (unit, "replace", [property, (_NO_PROPERTY, ("b", True))], []), subject=unit)
        except UnitError as error:
            is_about_it = error.name not in ("", _UNIT_EXISTS) and _NO_PROPERTY not in error.detail
            return error if is_about_it else None
        return None

    def stop(self, unit: str) -> None:
        self.run_job("StopUnit", "ss", (unit, "replace"))

    def reset_failed(self, unit: str) -> None:
        self.call("ResetFailedUnit", "s", (unit,), subject=unit)

    def _left_s(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    @staticmethod
    def _failure(method: str, subject: str | None, error: OSError) -> UnitError:
        number = errno.ETIMEDOUT if isinstance(error, TimeoutError) else error.errno or 0
        return UnitError(_step(method), subject, number, _CGROUPS_PATH, "systemd does not answer")


def _step(method: str) -> str:
    """`StopUnit` is "stop unit"."""
    return "".join(f" {c.lower()}" if c.isupper() else c for c in method).strip()


def _refusal(method: str, subject: str | None, reply: Message) -> UnitError:
    from jeepney import HeaderFields

    name = reply.header.fields[HeaderFields.error_name]
    text = str(reply.body[0]) if reply.body else ""
    return UnitError(_step(method), subject, errno.EEXIST if name == _UNIT_EXISTS else 0, _CGROUPS_PATH, f"{text} ({name})", name)


@contextlib.contextmanager
def _connected() -> Iterator[_Manager]:
    """A connection for one operation: any thread may do one, and a bus that is started anew is found. Who has no privileges asks the
    manager of the own user. Raises SetupError."""
    check_systemd()
    # 10 ms, wanted by this driver only
    from jeepney.bus import get_bus
    from jeepney.io.blocking import open_dbus_connection

    is_user = read_host().is_rootless
    whose, path = ("user", _user_bus()) if is_user else ("system", get_bus("SYSTEM"))
    try:
        connection = _connected_to_user_bus(path) if is_user else open_dbus_connection("SYSTEM", auth_timeout=JOB_TIMEOUT_S)
    except (OSError, TimeoutError) as error:
        raise SetupError(f"connect to the {whose} bus", path, error.errno or errno.ETIMEDOUT, None) from error
    with connection:
        yield _Manager(connection)


def _user_bus() -> str:
    """Where the bus of the user's manager is, as sd_bus_open_user(3) has it. Raises SetupError."""
    from jeepney.bus import get_bus

    given = os.environ.get("DBUS_SESSION_BUS_ADDRESS")
    if not given:
        directory = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{_uid_outside()}"
        return f"{directory}/bus"
    try:
        return str(get_bus(given))
    except (ValueError, RuntimeError) as error:
        raise SetupError("connect to the user bus", given, errno.EINVAL, None, "DBUS_SESSION_BUS_ADDRESS is no address of a socket") from error


def _connected_to_user_bus(path: str) -> DBusConnection:
    """The caller may be in a user namespace, as when podman calls a runtime for a user, and the bus knows it by another uid then, which
    jeepney does not say. Raises OSError."""
    import socket

    from jeepney.io.blocking import DBusConnection

    bus = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        bus.settimeout(JOB_TIMEOUT_S)
        bus.connect(path)
        # D-Bus Specification, "Authentication Protocol"
        bus.sendall(b"\0AUTH EXTERNAL " + str(_uid_outside()).encode().hex().encode() + b"\r\n")
        answer = b""
        while not answer.endswith(b"\r\n"):
            received = bus.recv(1024)
            if not received:
                raise ConnectionResetError(errno.ECONNRESET, "closed while it was asked who this is")
            answer += received
        if not answer.startswith(b"OK "):
            raise PermissionError(errno.EACCES, "refuses this user")
        bus.sendall(b"BEGIN\r\n")
        bus.settimeout(None)
        return DBusConnection(bus)
    except BaseException:
        bus.close()
        raise


def _uid_outside() -> int:
    """The caller's uid in the user namespace above its own, if that is not the first one."""
    uid = os.geteuid()
    with open("/proc/self/uid_map") as uid_map:
        for first, outside, count in (map(int, line.split()) for line in uid_map):
            if first <= uid < first + count:
                return outside + uid - first
    return uid
