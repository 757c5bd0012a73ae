"""One file of a cgroup with what is written to it, and what the kernel then has to say."""

from __future__ import annotations

import re

import msgspec

from pyruntime.plan import flags
from pyruntime.plan.host_operations import WriteFile

INT_MAX, UINT_MAX, U64_MAX = 2**31 - 1, 2**32 - 1, 2**64 - 1
_LONG_MAX = 2**63 - 1
_NUMBER = re.compile(r"0x([0-9a-f]+)|(0[0-7]*)|([1-9]\d*)", re.ASCII | re.IGNORECASE)
_SIZE_UNITS = {"KB": 2**10, "MB": 2**20, "GB": 2**30}
# what memparse() of the kernel takes for a unit
_UNITS = {letter: 2**(10 * (i + 1)) for i, letter in enumerate("KMGTPE")}


class Setting(msgspec.Struct, frozen=True):
    """What one field asks of one file.

    json_path    from `linux.resources` on
    controller   which has the file
    values       each is one write
    expected     what the file has to say then, as `check` has it; nothing where the kernel does not tell
    unless       other files of the same cgroup, of which one that is there has been written instead
    is_optional  a cgroup that has no such file has it so anyway
    """

    json_path: str
    controller: str
    file: str
    values: tuple[str, ...]
    expected: tuple[str, ...] = ()
    check: int = flags.CHECK_LINES
    unless: tuple[str, ...] = ()
    is_optional: bool = False

    def operation(self, json_path: str, directory: str) -> WriteFile:
        """json_path: of `linux.resources`; directory: of the cgroup."""
        unless = (f"{directory}/{file}" for file in self.unless)
        texts = tuple(text.encode() for text in (*unless, *self.values, *self.expected))
        return WriteFile(f"{json_path}.{self.json_path}", f"{directory}/{self.file}".encode(), texts, len(self.unless), len(self.expected),
                         self.check if self.expected else flags.CHECK_NOTHING, int(self.is_optional))


def exact(json_path: str, controller: str, file: str, value: str) -> Setting:
    """A value that the kernel gives back as it is."""
    return Setting(json_path, controller, file, (value,), (value,))


def number_list(json_path: str, file: str, value: str, check: int) -> Setting:
    """A list of CPUs or memory nodes. Those that are not there, or offline, are left out; others than these would be no limit."""
    return Setting(json_path, "cpuset", file, (value,), ("".join(value.split()),), check)


def counter(json_path: str, controller: str, file: str, value: str, page_bytes: int, kernel_page_bytes: int, *,
            is_optional: bool = False) -> Setting:
    """A counter of pages on v2: 'max', or bytes."""
    size_bytes = parse_size(value)
    expected: tuple[str, ...] = ()
    if size_bytes is not None:
        kept = pages(size_bytes, page_bytes, kernel_page_bytes)
        expected = ("max" if kept is None else str(kept),)
    return Setting(json_path, controller, file, (value,), expected, is_optional=is_optional)


def pages(size_bytes: int, page_bytes: int, kernel_page_bytes: int) -> int | None:
    """What a counter of pages keeps of a number of bytes: whole pages, and None for no limit."""
    largest = _LONG_MAX // kernel_page_bytes * kernel_page_bytes // page_bytes * page_bytes
    kept = size_bytes // page_bytes * page_bytes
    return None if size_bytes < 0 or kept >= largest else kept


def no_limit_v1(page_bytes: int, kernel_page_bytes: int) -> int:
    """What a v1 counter of pages says where there is no limit, in bytes."""
    return _LONG_MAX // kernel_page_bytes * kernel_page_bytes // page_bytes * page_bytes


def huge_page_bytes(page_size: str) -> int:
    """`2MB` in bytes."""
    return int(page_size[:-2]) * _SIZE_UNITS[page_size[-2:]]


def kernel_number(text: str) -> int | None:
    """A number as the kernel takes it: decimal, `0x` and hexadecimal, or `0` and octal."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    return int(match[1], 16) if match[1] else int(match[2], 8) if match[2] else int(match[3])


def parse_size(text: str) -> int | None:
    """Bytes of what the kernel takes for a size, `32M` or `max` (-1); None for what it refuses."""
    text = text.strip()
    if text == "max":
        return -1
    unit = _UNITS.get(text[-1:].upper())
    # in a hexadecimal number `E` is a digit
    number = kernel_number(text)
    if number is not None or unit is None:
        return number
    number = kernel_number(text[:-1])
    return None if number is None else number * unit
