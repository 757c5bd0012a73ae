"""Run what claims to prove a row, and keep what passed:

    python tests/conformance/record.py [--place PLACE]... [-- PYTEST-ARGUMENT...]

By default all marked tests in each place that can run them: on this host, and in virtual machines with and without systemd. What is
recorded is added to what was; a test that fails is taken out. docs/conformance.md is written anew.
"""

from __future__ import annotations

import argparse
import datetime
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from conformance.document import DOCUMENT, current_document  # noqa: E402  # of the path above
from conformance.places import PLACES  # noqa: E402
from conformance.runs import RECORD_MARK, Run, merged, read_runs, write_run  # noqa: E402

ROOT = Path(__file__).parents[2]
PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "conformance", "--conformance-record"]
VIRTUAL_MACHINE = [sys.executable, str(ROOT / "tests/vm/run.py"), "--timeout", "7200"]
COMMANDS = {"cgroup-v1": PYTEST, "cgroup-v2": [*VIRTUAL_MACHINE, *PYTEST, "-o", "timeout=600"],
            "systemd": [*VIRTUAL_MACHINE, "--systemd", *PYTEST, "-o", "timeout=600"],
            "selinux": [*VIRTUAL_MACHINE, "--parameters", "security=selinux selinux=1 enforcing=0", *PYTEST, "-o", "timeout=600"]}
# the tests that there are for each, or that another kernel can make a difference to
TESTS = {"cgroup-v1": [],
         "cgroup-v2": ["tests/conformance", "tests/privileged", "tests/security", "tests/contract/test_native.py", "tests/vm/test_features.py"],
         "systemd": [f"tests/vm/test_{name}.py" for name in ("systemd", "systemd_properties", "delegation")],
         "selinux": ["tests/vm/test_selinux.py"]}


def run_in(place: str, arguments: list[str]) -> tuple[str, Run] | None:
    """Where it was and what passed there; the output is passed on."""
    process = subprocess.Popen([*COMMANDS[place], *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    found = None
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(RECORD_MARK):
            where, _, text = line.removeprefix(RECORD_MARK).partition(" ")
            found = where, Run.from_json(text)
        else:
            print(line, end="", flush=True)
    process.wait()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--place", action="append", choices=PLACES)
    parser.add_argument("arguments", nargs="*", help="of pytest; default: all tests for the place")
    options = parser.parse_args()
    status = 0
    for place in options.place or PLACES:
        found = run_in(place, options.arguments or TESTS[place])
        if found is None or found[0] != place:
            print(f"no record of {place}: {'the run ended early' if found is None else f'this is {found[0]}'}", file=sys.stderr)
            status = 1
            continue
        write_run(place, merged(read_runs().get(place), found[1], datetime.date.today().isoformat()))
        status |= bool(found[1].disproven)
    DOCUMENT.write_text(current_document())
    return status


if __name__ == "__main__":
    raise SystemExit(main())
