"""doctor: what this host can do, and what to change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from pyruntime.cli.plain import Options
from pyruntime.cli.states import print_json
from pyruntime.doctor import Finding, Verdict, can_run, diagnose


def print_diagnosis(options: Options) -> int:
    """0 if containers can run for the caller, 1 if not."""
    findings = diagnose(options.root)
    if options.format == "json":
        print_json({"canRun": can_run(findings), "findings": msgspec.to_builtins(findings)})
    else:
        for line in lines_of(findings):
            print(line)
    return 0 if can_run(findings) else 1


def lines_of(findings: Sequence[Finding]) -> Iterator[str]:
    """A line for what is fine; for the rest what follows, and the remedy, below it."""
    topic = None
    for finding in findings:
        if finding.topic != topic:
            topic = finding.topic
            yield f"{topic}:"
        yield f"  {finding.verdict:8} {finding.name}: {finding.found}"
        if finding.follows is not None:
            yield f"           {finding.follows}"
        if finding.remedy is not None:
            yield f"           remedy: {finding.remedy}"
    if can_run(findings):
        yield "containers can run for this caller"
    else:
        lacking = [finding.name for finding in findings if finding.is_required and finding.verdict is Verdict.MISSING]
        yield f"no containers can run for this caller: {', '.join(lacking)}"
