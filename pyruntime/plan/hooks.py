"""Hooks: what they are told of the container, and those that run in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from pyruntime.plan import operations as op
from pyruntime.spec import Hook, Hooks, Spec

# of a hook in the container before the process's own umask is there
CREATE_UMASK = 0o022
# config.md's names, in the order of the life cycle
KINDS = {"prestart": "prestart", "createRuntime": "create_runtime", "createContainer": "create_container",
         "startContainer": "start_container", "poststart": "poststart", "poststop": "poststop"}


def hooks_of(hooks: Hooks, kind: str) -> Iterator[tuple[str, Hook]]:
    """Those of a kind, each with its JSON path."""
    for i, hook in enumerate(getattr(hooks, KINDS[kind])):
        yield f"$.hooks.{kind}[{i}]", hook


def has_create_hooks(hooks: Hooks) -> bool:
    """Whether some run between the mounts and the change of root."""
    return bool(hooks.prestart or hooks.create_runtime or hooks.create_container)


def later_hooks(hooks: Hooks) -> Hooks | msgspec.UnsetType:
    """Those that run after the creation, if there are any."""
    if not (hooks.start_container or hooks.poststart or hooks.poststop):
        return msgspec.UNSET
    return Hooks(start_container=hooks.start_container, poststart=hooks.poststart, poststop=hooks.poststop)


def state_texts(oci_version: str, id: str, status: str, bundle_path: str, annotations: dict[str, str]) -> tuple[bytes, bytes]:
    """The container's state in JSON (runtime.md, "State"), up to the number of `pid` and behind it.

    The id may be a hole of the plan: it needs no escapes, nor does its place.
    """
    rest: dict[str, object] = {"bundle": _as_json_can(bundle_path)}
    if annotations:
        rest["annotations"] = annotations
    before = b'{"ociVersion":%s,"id":"%s","status":"%s","pid":' % (msgspec.json.encode(oci_version), id.encode(), status.encode())
    return before, b"," + msgspec.json.encode(rest)[1:]


def run_in_container(spec: Spec, id: str, bundle_path: str, kind: str, status: str, umask: int,
                     env: Sequence[str] | None = None, is_filtered: bool = False) -> list[op.Operation]:
    """The operations of the init that run the hooks of a kind. env: the program's, which those that state none have. is_filtered: they run
    under the filter that is installed later."""
    texts = state_texts(spec.oci_version, id, status, bundle_path, spec.annotations)
    return [op.RunHook(json_path, (_encode(hook.path), *texts, *map(_encode, arguments_of(hook))), tuple(map(_encode, hook.env or env or ())),
                       hook.timeout or 0, umask, i, int(env is not None and not hook.env), int(is_filtered))
            for i, (json_path, hook) in enumerate(hooks_of(spec.hooks, kind))]


def arguments_of(hook: Hook) -> tuple[str, ...]:
    """argv: the path alone where there is none."""
    return hook.args or (hook.path,)


def _encode(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _as_json_can(path: str) -> str:
    return path.encode(errors="surrogateescape").decode(errors="replace")
