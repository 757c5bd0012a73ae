"""plan: what would be done, in order, and why, without doing it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from pyruntime.cli.arguments import cgroups_asked
from pyruntime.cli.failures import explain
from pyruntime.cli.plain import Options
from pyruntime.cli.states import print_json
from pyruntime.errors import InvalidBundleError
from pyruntime.plan.compile import Manner
from pyruntime.plan.outline import Step
from pyruntime.runtimes.preview import OtherCaller, Preview, Previewer

_STAGES = {"create": "create", "start": "start", "delete": "delete, or the end of it"}
_STEP_WIDTH = 25
_WHAT_WIDTH = 80


def print_plan(options: Options) -> int:
    """Lines for people, or one document for programs; of a bundle that is refused the error, for programs as a document too."""
    manner = Manner(options.no_pivot, options.no_new_keyring, True, options.preserve_fds)
    systemd_cgroup, no_cgroups = cgroups_asked(options)
    previewer = None
    try:
        previewer = Previewer(options.bundle, options.id, root=options.root, systemd_cgroup=systemd_cgroup, no_cgroups=no_cgroups,
                              manner=manner)
        found = previewer.preview()
    except InvalidBundleError as error:
        # what nobody could make a container of is the same for all
        other = previewer.for_other() if previewer is not None else None
        if options.format == "json":
            print_json(_as_json_can({"error": error_document(error), "other": msgspec.to_builtins(other)}))
        elif other is not None and other.refused is None:
            print(f"for {other.caller}: not refused; {len(other.more)} steps")
        raise
    if options.format == "json":
        print_json(_as_json_can(document_of(found)))
    else:
        for line in lines_of(found):
            print(_as_json_can(line))
    return 0


def _as_json_can(value: Any) -> Any:
    """Bytes of paths that are not UTF-8 have escapes."""
    if isinstance(value, dict):
        return {name: _as_json_can(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json_can(inner) for inner in value]
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def error_document(error: InvalidBundleError) -> dict[str, Any]:
    """A typed error by its attributes."""
    return {"type": type(error).__name__, "message": explain(error), "file": error.file, "jsonPath": error.json_path, "reason": error.reason}


def document_of(found: Preview) -> dict[str, Any]:
    """Each step tells by itself whether config.json has what asks for it."""
    document: dict[str, Any] = msgspec.to_builtins(found)
    del document["notGiven"]
    for step in document["steps"]:
        step["isGiven"] = step["jsonPath"] is not None and step["jsonPath"] not in found.not_given
    return document


def lines_of(found: Preview) -> Iterator[str]:
    """A line for each step."""
    yield f"container {found.id} of {found.bundle}, made by {found.caller}"
    stage = None
    for number, step in enumerate(found.steps, 1):
        if step.stage != stage:
            stage = step.stage
            yield f"{_STAGES[stage]}:"
        yield f"{number:4} {step.by:4} {what(step):{_WHAT_WIDTH}}  # {why(step, found.not_given)}"
    for warning in found.warnings:
        yield f"warning: {warning}"
    yield from _of_other(found.other, found.not_given)


def what(step: Step) -> str:
    """What is done, on what, with what."""
    words = " ".join(part for part in (step.subject, step.details) if part)
    return f"{step.step:{_STEP_WIDTH}} {words}".rstrip()


def why(step: Step, not_given: frozenset[str]) -> str:
    """The field, the rule, or both."""
    field = step.json_path
    if field is not None and field in not_given:
        field += " (not given)"
    return "; ".join(part for part in (field, step.reason) if part)


def _of_other(other: OtherCaller, not_given: frozenset[str]) -> Iterator[str]:
    if other.refused is not None:
        yield f"for {other.caller}: refused: {other.refused}"
    elif not other.more and not other.fewer:
        yield f"for {other.caller}: the same"
    else:
        yield f"for {other.caller}: {len(other.fewer)} steps fewer and {len(other.more)} others"
        yield from (f"   - {step.by:4} {what(step)}" for step in other.fewer)
        yield from (f"   + {step.by:4} {what(step):{_WHAT_WIDTH}}  # {why(step, not_given)}" for step in other.more)
