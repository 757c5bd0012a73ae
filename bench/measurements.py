"""What is measured: each function returns samples by contender."""

from __future__ import annotations

import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

from bench.command_line import CommandLine
from bench.coprocess import Coprocess
from bench.floor import Floor
from bench.native import Native
from bench.samples import ContenderError, Sample, Series, describe, interleave
from bench.workspace import Workspace

RESIDENT_BYTES = 2 << 30
STATE_CALLS = 500
MEMORY_ROUNDS = 10
CONTAINERS_PER_ROUND = 24
REPEATED = 10


class Contender(Protocol):
    """What the floor, NativeRuntime, runc and crun can all do."""

    name: str

    def cycle(self) -> Sample:
        """Create, start, wait for and delete a container of /bin/true."""
        ...

    def execute(self) -> Sample:
        """Run /bin/true in the container of `run_sleep`, and wait for it."""
        ...

    def create(self) -> int:
        """Leave a container created; its init's pid."""
        ...

    def run_sleep(self) -> int:
        """Leave a container running; its init's pid."""
        ...

    def remove(self) -> None:
        """Kill and delete the container of `create` or `run_sleep`."""
        ...


class Bench:
    """The contenders that there are, and how long to measure."""

    def __init__(
        self, space: Workspace, contenders: list[Contender], rounds: int, settle_s: float, notes: list[str]
    ) -> None:
        self.space = space
        self.contenders = contenders
        self.rounds = rounds
        self.settle_s = settle_s
        self.notes = notes
        self._commands: list[CommandLine] = []

    def commands(self) -> list[CommandLine]:
        """The command lines that there are, ours among them."""
        if self._commands:
            return self._commands
        programs = [each for each in self.contenders if isinstance(each, CommandLine)]
        bundles = self.space.bundle("pyruntime"), self.space.sleep_bundle("pyruntime-sleep")
        program = f"{sysconfig.get_path('scripts')}/pyruntime"
        ours = CommandLine("pyruntime", self.space.state, *bundles, program)
        self.space.at_end(ours.close)
        self._commands = [ours, *programs]
        return self._commands

    def interleave(self, actions: Mapping[str, Callable[[], Sample]], rounds: int | None = None) -> Series:
        return interleave(rounds or self.rounds, actions, self.notes, self.settle_s)

    def native(self) -> Native:
        for contender in self.contenders:
            if isinstance(contender, Native):
                return contender
        raise ContenderError("needs NativeRuntime")


def measure_cycle(bench: Bench) -> Series:
    """A whole container's life."""
    return bench.interleave({each.name: each.cycle for each in bench.contenders})


def measure_repeated(bench: Bench) -> Series:
    """The cycle again and again: each but the first of a row follows one of the same contender, caches and all."""
    series: Series = {each.name: [] for each in bench.contenders}

    def row(contender: Contender) -> Sample:
        contender.cycle()
        samples = [contender.cycle() for _ in range(REPEATED)]
        series[contender.name] += samples
        return samples[0]

    actions = {each.name: partial(row, each) for each in bench.contenders}
    bench.interleave(actions, max(5, bench.rounds // REPEATED))
    return series


def measure_exec(bench: Bench) -> Series:
    """A further process in a running container."""
    running: dict[str, Contender] = {}
    for contender in bench.contenders:
        try:
            contender.run_sleep()
        except Exception as error:  # the others go on
            bench.notes.append(f"{contender.name}: no exec: {describe(error)}")
            continue
        running[contender.name] = contender
    try:
        return bench.interleave({name: each.execute for name, each in running.items()})
    finally:
        for contender in running.values():
            contender.remove()


def measure_commands(bench: Bench) -> Series:
    """create, start, state, kill and delete, a process each. `engine`: of bundles of one kind; `new`: of a bundle that is like none before."""
    programs = bench.commands()
    actions = {each.name: each.life for each in programs}
    actions |= {f"{each.name} engine": each.engine_life for each in programs}
    actions |= {f"{each.name} new": each.new_life for each in programs}
    return bench.interleave(actions)


def measure_run(bench: Bench) -> Series:
    """The command `run`."""
    return bench.interleave({each.name: each.cycle for each in bench.commands()})


def measure_exec_command(bench: Bench) -> Series:
    """The command `exec` in a running container."""
    programs = bench.commands()
    for each in programs:
        each.run_sleep()
    try:
        return bench.interleave({each.name: each.execute for each in programs})
    finally:
        for each in programs:
            each.remove()


def measure_resident(bench: Bench) -> Series:
    """The native cycle, from two processes that differ only in how much memory they hold."""
    bench.native()
    space = bench.space
    callers: dict[str, Callable[[], Sample]] = {}
    for name, size_bytes in (("without", 0), ("with 2 GiB", RESIDENT_BYTES)):
        label = f"caller-{size_bytes >> 30}"
        arguments = [str(space.state / f"{label}-root"), str(space.bundle(label)), str(size_bytes)]
        caller = Coprocess([sys.executable, "-m", "bench.caller", *arguments], Path(__file__).parent.parent)
        space.at_end(caller.close)
        callers[name] = partial(caller.ask, "cycle")
    return bench.interleave(callers)


def proportional_set_kib(pid: int) -> float:
    """Proportional set size (proc(5), smaps_rollup)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return float(line.split()[1])
    raise ContenderError(f"process {pid} has no proportional set size")


def measure_memory(bench: Bench) -> Series:
    """What a container that waits for its start costs."""

    def created(contender: Contender) -> Sample:
        pid = contender.create()
        try:
            return {"pss_kib": proportional_set_kib(pid)}
        finally:
            contender.remove()

    actions = {each.name: partial(created, each) for each in bench.contenders}
    return bench.interleave(actions, min(bench.rounds, MEMORY_ROUNDS))


def measure_state(bench: Bench) -> Series:
    """One `get_container_state`, for a container that was created and for one that runs."""
    native = bench.native()
    series: Series = {}
    for status, make in (("created", native.create), ("running", native.run_sleep)):
        make()
        try:
            series[status] = [{"state": _time_state(native)} for _ in range(STATE_CALLS)]
        finally:
            native.remove()
    return series


def _time_state(native: Native) -> float:
    begin = time.perf_counter_ns()
    native.runtime.get_container_state(native.held)
    return time.perf_counter_ns() - begin


def measure_throughput(bench: Bench) -> Series:
    """Containers per second from one process with one thread and with two; and from one and from two processes of the floor,
    which is what the kernel and the machine allow."""
    native = bench.native()
    floors = [each for each in bench.contenders if isinstance(each, Floor)]
    if floors:
        floors.append(floors[0].another())
        bench.space.at_end(floors[1].close)
    bundles = [str(bench.space.bundle(f"thread-{number}")) for number in range(2)]
    turn = iter(range(sys.maxsize))

    def run(thread_count: int, cycle: Callable[[int, str], object]) -> Sample:
        share = CONTAINERS_PER_ROUND // thread_count
        names = [f"bench-turn-{next(turn)}-thread-{number}" for number in range(thread_count)]
        ready = threading.Barrier(thread_count + 1)
        errors: list[Exception] = []

        def work(number: int) -> None:
            ready.wait()
            try:
                for count in range(share):
                    cycle(number, f"{names[number]}-{count}")
            except Exception as error:  # raised again in the thread that measures
                errors.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(thread_count)]
        for thread in threads:
            thread.start()
        ready.wait()
        begin = time.perf_counter_ns()
        for thread in threads:
            thread.join()
        elapsed_s = (time.perf_counter_ns() - begin) / 1e9
        if errors:
            raise errors[0]
        return {"containers_per_s": share * thread_count / elapsed_s}

    def run_native(number: int, id: str) -> object:
        return native.cycle_of(id, bundles[number])

    def run_floor(number: int, id: str) -> object:
        return floors[number].cycle()

    actions = {"1 thread": partial(run, 1, run_native), "2 threads": partial(run, 2, run_native)}
    if floors:
        actions |= {"1 floor": partial(run, 1, run_floor), "2 floors": partial(run, 2, run_floor)}
    return bench.interleave(actions, max(5, bench.rounds // 8))


MEASUREMENTS: Mapping[str, Callable[[Bench], Series]] = {
    "cycle": measure_cycle,
    "repeated": measure_repeated,
    "exec": measure_exec,
    "commands": measure_commands,
    "run": measure_run,
    "exec-command": measure_exec_command,
    "resident": measure_resident,
    "memory": measure_memory,
    "state": measure_state,
    "throughput": measure_throughput,
}


def measure_steps(floor: Floor, rounds: int) -> Series:
    """Where the floor's create spends its time."""
    return {"floor": [floor.steps() for _ in range(rounds)]}
