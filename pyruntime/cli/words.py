"""errno in words, as engines know them from Go."""

from __future__ import annotations

import errno
import os


def words_of(number: int) -> str:
    """errno's name and text, as they stand at the end of messages."""
    return f"{errno.errorcode.get(number, f'errno {number}')}: {text_of(number)}"


def text_of(number: int) -> str:
    text = os.strerror(number)
    return text[:1].lower() + text[1:]
