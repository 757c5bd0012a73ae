"""Plans for the front end of the command line."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyruntime.native.kept import PlanFile


def plan_file(options: argparse.Namespace) -> PlanFile | None:
    """Where the plan of this command is kept; None where main was not called with a program's arguments."""
    arguments = getattr(options, "arguments", None)
    if arguments is None:
        return None
    from pyruntime.native.kept import PlanFile

    return PlanFile(arguments)
