"""The hooks that the host runs (config.md, "POSIX-platform Hooks")."""

from __future__ import annotations

import os
from collections.abc import Iterable

import msgspec

from pyruntime.errors import HookFailedError
from pyruntime.interface import Status
from pyruntime.notices import log as _log
from pyruntime.plan.hooks import arguments_of, hooks_of, state_texts
from pyruntime.spec import Hook, Hooks
from pyruntime.state import ContainerRecord


def run_hooks(hooks: Hooks, kinds: Iterable[str], record: ContainerRecord, status: str) -> None:
    """Run those of these kinds, in their order, until one fails. Raises HookFailedError."""
    text = _state(record, status)
    for kind in kinds:
        for json_path, hook in hooks_of(hooks, kind):
            _run(json_path, hook, record.bundle_path, text)


def start_container_hook(record: ContainerRecord, index: int) -> tuple[str, int | None]:
    """Path and timeout of one that the init has run."""
    hooks = () if record.hooks is msgspec.UNSET else record.hooks.start_container
    return (hooks[index].path, hooks[index].timeout) if index < len(hooks) else ("", None)


def run_poststart_hooks(record: ContainerRecord, status: Status) -> HookFailedError | None:
    """Of a container that was started; why one has failed."""
    if record.hooks is msgspec.UNSET:
        return None
    try:
        run_hooks(record.hooks, ("poststart",), record, status)
    except HookFailedError as error:
        return error
    return None


def run_poststop_hooks(record: ContainerRecord) -> None:
    """Of a container that is gone. One that fails is warned of, and the others run."""
    if record.hooks is msgspec.UNSET:
        return
    text = _state(record, "stopped")
    for json_path, hook in hooks_of(record.hooks, "poststop"):
        try:
            _run(json_path, hook, record.bundle_path, text)
        except HookFailedError as error:
            _log.warning("container %s: %s", record.id, error)


def _state(record: ContainerRecord, status: str) -> bytes:
    before, after = state_texts(record.oci_version, record.id, status, record.bundle_path, record.annotations)
    # a pid that is no more may be another process's
    return before.removesuffix(b'"pid":').removesuffix(b",") + after if status == "stopped" else before + b"%d" % record.pid + after


def _run(json_path: str, hook: Hook, bundle_path: str, text: bytes) -> None:
    from pyruntime.native.hooks import HookNotStartedError, run_hook  # few containers have hooks

    # a bundle may be gone when the container is; what a hook names is absolute
    directory = bundle_path if os.path.isdir(bundle_path) else "/"
    try:
        end = run_hook(_encode(hook.path), [*map(_encode, arguments_of(hook))], [*map(_encode, hook.env)], os.fsencode(directory),
                       hook.timeout, text)
    except HookNotStartedError as error:
        raise HookFailedError(hook.path, error.errno, f"{json_path}.path", error.detail) from error
    if not end.has_succeeded:
        raise end.failure(hook.path, json_path, hook.timeout)


def _encode(text: str) -> bytes:
    return text.encode(errors="surrogateescape")
