"""A plan told step by step, in an order in which it is executed: what the host and the init do at once stands one after the other, so that
each has what it waits for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import msgspec

from pyruntime.plan import flags
from pyruntime.plan.hooks import arguments_of, hooks_of
from pyruntime.plan.operation import Operation, step_of
from pyruntime.plan.operations import AnnounceHooks, AnnounceNetwork, AwaitRelease, AwaitStart, PassSlots, Plan, ReceiveSlots, ReleaseChild
from pyruntime.plan.reasons import reason_of
from pyruntime.plan.words import details_of, operands_of

Stage = Literal["create", "start", "delete"]


class Step(msgspec.Struct, frozen=True, rename="camel"):
    """What is done, on what, and why.

    stage      the operation of the runtime that does it (runtime.md, "Operations")
    by         `host`: the calling process; `init`: the container's own
    step       in words, as errors have it
    details    with what, in words
    operands   the same for programs
    json_path  of the field that asks for it
    reason     the rule that does, or why it is done so
    """

    stage: Stage
    by: Literal["host", "init"]
    step: str
    subject: str | None = None
    details: str = ""
    operands: dict[str, Any] = {}
    json_path: str | None = None
    reason: str | None = None

    @property
    def identity(self) -> tuple[str, str | None, str, str | None]:
        """By which it is the same as one of another plan."""
        return self.step, self.subject, self.details, self.json_path


def outline(plan: Plan) -> list[Step]:
    """All of it, up to the hooks of its end."""
    steps = [_step("create", "host", operation) for operation in plan.host]
    names = [name for name, bit in flags.NAMESPACES.items() if plan.clone_flags & bit]
    into = "" if plan.cgroup is None else "into its v2 cgroup"
    steps.append(Step("create", "host", "clone the init", ", ".join(names) or None, into, {"flags": plan.clone_flags},
                      "$.linux.namespaces" if names else None,
                      "user_namespaces(7): a new user namespace owns those that are made with it" if "user" in names else
                      "the other namespaces are made by the init, while the host does the rest"))
    steps += _together(plan)
    steps += _hooks(plan, "poststart", "start")
    steps += _hooks(plan, "poststop", "delete")
    return steps


def _together(plan: Plan) -> Iterator[Step]:
    """From the clone on."""
    child, stage, before = list(plan.child), "create", None
    for operation in plan.init:
        if isinstance(operation, (AwaitRelease, AwaitStart, ReceiveSlots)):
            if isinstance(before, AnnounceNetwork):
                yield from _moves(plan)
            elif isinstance(before, AnnounceHooks) and isinstance(operation, AwaitRelease):
                for kind in ("prestart", "createRuntime"):
                    yield from _hooks(plan, kind, "create")
            else:
                until = PassSlots if isinstance(operation, ReceiveSlots) else ReleaseChild if isinstance(operation, AwaitRelease) else ()
                yield from (_step("create", "host", done) for done in _taken(child, until))
        yield _step("start" if stage == "start" else "create", "init", operation)
        if type(operation).__name__ == "AwaitScheduling":
            yield from _scheduling(plan, "start" if stage == "start" else "create")
        if isinstance(operation, AwaitStart):
            stage = "start"
        before = operation
    yield from (_step("create", "host", done) for done in child)


def _taken(child: list[Operation], until: type[Operation] | tuple[()]) -> list[Operation]:
    """Up to that one, or all."""
    end = next((i + 1 for i, operation in enumerate(child) if isinstance(operation, until)), len(child))
    taken, child[:] = child[:end], child[end:]
    return taken


def _step(stage: Stage, by: Literal["host", "init"], operation: Operation) -> Step:
    return Step(stage, by, step_of(operation), operation.subject(), details_of(operation), operands_of(operation),
                operation.json_path or None, reason_of(operation, by == "init"))


def _moves(plan: Plan) -> Iterator[Step]:
    for device in plan.net_devices:
        yield Step("create", "host", "move network device", device.host_name, f"as {device.name}", {"name": device.name}, device.json_path)


def _scheduling(plan: Plan, stage: Stage) -> Iterator[Step]:
    scheduling = plan.scheduling
    if scheduling is None:
        return
    if scheduling.scheduler is not None:
        values = msgspec.structs.asdict(scheduling.scheduler)
        yield Step(stage, "host", "set scheduler", None, " ".join(f"{name} {value}" for name, value in values.items()), values,
                   f"{scheduling.json_path}.scheduler")
    if scheduling.io_priority is not None:
        kind, level = divmod(scheduling.io_priority, 1 << flags.IOPRIO_CLASS_SHIFT)
        yield Step(stage, "host", "set io priority", None, f"class {kind} level {level}", {"class": kind, "level": level},
                   f"{scheduling.json_path}.ioPriority")


_WHEN = {"prestart": "before the root is changed, while the init waits", "createRuntime": "before the root is changed, while the init waits",
         "poststart": "once the program is executed", "poststop": "when all is removed; a failure is warned of"}


def _hooks(plan: Plan, kind: str, stage: Stage) -> Iterator[Step]:
    for json_path, hook in hooks_of(plan.hooks, kind):
        arguments: Sequence[str] = arguments_of(hook)
        limit = f" (at most {hook.timeout} s)" if hook.timeout else ""
        yield Step(stage, "host", "run hook", hook.path, " ".join(arguments[1:]) + limit,
                   {"arguments": list(arguments), "timeout_s": hook.timeout}, json_path, _WHEN[kind])
