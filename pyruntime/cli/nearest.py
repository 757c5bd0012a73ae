"""What somebody meant who wrote a name that there is not."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """To be put behind the name: the most similar one as a question, or nothing where none is similar."""
    found = difflib.get_close_matches(name, known, 1)
    return f": did you mean {found[0]}?" if found else ""
