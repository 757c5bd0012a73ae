"""Plans for the front end of the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pyruntime.cli.log import rendered

if TYPE_CHECKING:
    from pyruntime.cli.plain import Options
    from pyruntime.native.kept import PlanFile

_TIME = "0000-00-00T00:00:00.000000Z"  # which is none


def plan_file(options: Options) -> PlanFile | None:
    """Where the plan of this command is kept; None where main was not called with a program's arguments."""
    arguments = getattr(options, "arguments", None)
    if arguments is None:
        return None
    from pyruntime.native.kept import PlanFile

    return PlanFile(arguments, _rendered)


def _rendered(warnings: Sequence[str], is_json: bool) -> bytes:
    """Lines of the log, with a place for the time."""
    from pyruntime.native.kept import PLACE_OF_NOW

    return b"".join(rendered("warning", warning, is_json, _TIME) for warning in warnings).replace(_TIME.encode(), PLACE_OF_NOW)
