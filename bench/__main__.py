"""The command: `python -m bench`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TypeVar

from bench import chart, comparison, report
from bench.command_line import CommandLine
from bench.floor import Floor, build_floor
from bench.goals import judge
from bench.measurements import MEASUREMENTS, Bench, Contender, measure_steps
from bench.native import Native
from bench.samples import ContenderError, Series, describe
from bench.workspace import Workspace, hugetlb_hierarchy, workspace

ROUNDS = 200
QUICK_ROUNDS = 60
RESULTS = Path(__file__).parent / "results"
PROGRAMS = ("crun", "runc")
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SETTLE = """pause after each sample (default 0). Without one, runc and crun keep the kernel's lock for cgroup
migration in its quick state for each other; with 50 ms they take 10 ms longer per cycle, as on an idle machine"""

C = TypeVar("C", Floor, Native, CommandLine)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, help=f"cycles of each contender (default {ROUNDS})")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROUNDS} rounds, about half a minute")
    parser.add_argument("--only", metavar="NAME,...", help=f"of {', '.join([*MEASUREMENTS, 'steps'])}")
    parser.add_argument("--check", action="store_true", help="compare the containers themselves, and measure nothing")
    parser.add_argument("--json", type=Path, default=RESULTS / "bench.json", help="where to (default: %(default)s)")
    parser.add_argument("--chart", type=Path, default=RESULTS / "bench.png", help="where to (default: %(default)s)")
    parser.add_argument("--settle-ms", type=float, default=0.0, help=SETTLE)
    arguments = parser.parse_args()
    arguments.rounds = arguments.rounds or (QUICK_ROUNDS if arguments.quick else ROUNDS)
    arguments.only = arguments.only.split(",") if arguments.only else list(MEASUREMENTS)
    for name in arguments.only:
        if name not in MEASUREMENTS and name != "steps":
            parser.error(f"there is no measurement '{name}'")
    if os.geteuid() != 0:
        parser.error("only root can make these containers")
    return arguments


def enter_contenders(space: Workspace, notes: list[str]) -> list[Contender]:
    """Those that this host has; a note says why another is left out."""

    def enter(name: str, make: Callable[[], C]) -> list[Contender]:
        try:
            contender = make()
        except Exception as error:  # the others go on
            notes.append(f"{name}: {describe(error)}")
            return []
        space.at_end(contender.close)
        return [contender]

    def native() -> Native:
        return Native(space.state / "native-root", space.bundle("native"), space.sleep_bundle("native-sleep"))

    def floor() -> Floor:
        return Floor(build_floor(space.directory), space.image)

    contenders = enter("native", native) + enter("floor", floor)
    for name in PROGRAMS:
        bundles = space.bundle(name), space.sleep_bundle(f"{name}-sleep")
        contenders += enter(name, partial(CommandLine, name, space.state, *bundles))
    return contenders


def measure(bench: Bench, names: list[str]) -> dict[str, Series]:
    """Run the measurements one after the other, and print each when it is done."""
    results: dict[str, Series] = {}
    for name in names:
        try:
            if name == "steps":
                series = measure_steps(next(each for each in bench.contenders if isinstance(each, Floor)), bench.rounds)
            else:
                series = MEASUREMENTS[name](bench)
        except Exception as error:  # what else can be measured is
            bench.notes.append(f"{name}: {describe(error)}")
            continue
        results[name] = {contender: samples for contender, samples in series.items() if samples}
        print(report.format_series(name, results[name]), flush=True)
    return results


def end_orderly(signal_number: int, frame: FrameType | None) -> None:
    """End through the clean-up, which a further signal does not interrupt."""
    for number in ENDING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def main() -> int:
    arguments = parse_arguments()
    for number in ENDING_SIGNALS:
        signal.signal(number, end_orderly)
    notes: list[str] = []
    facts = report.host()
    with ExitStack() as stack:
        try:
            stack.enter_context(hugetlb_hierarchy())
        except ContenderError as error:
            notes.append(f"crun will fail: {error}")
        space = stack.enter_context(workspace(notes))
        contenders = enter_contenders(space, notes)
        facts["programs"] = [each.version() for each in contenders if isinstance(each, CommandLine)]
        print("  ".join(f"{name} {value}" for name, value in facts.items()), flush=True)
        if arguments.check:
            text, is_same = comparison.compare({each.name: each for each in contenders}, "runc")
            print(text)
            return 0 if is_same else 1
        facts["settle_ms"] = arguments.settle_ms
        results = measure(Bench(space, contenders, arguments.rounds, arguments.settle_ms / 1000, notes), arguments.only)
    outcomes = judge(results)
    print(report.format_goals(outcomes))
    report.write_json(arguments.json, facts, results, outcomes, notes)
    complaint = chart.draw(results, arguments.chart)
    for note in [*notes, *([complaint] if complaint else [])]:
        print(f"note: {note}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted; everything that was made is removed")
