"""Files of cgroup v2 by their names (`linux.resources.unified`): what is written, and how the kernel says it again.

Source: Documentation/admin-guide/cgroup-v2.rst of Linux; where that is silent, what the file's parser takes and its printer gives.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from pyruntime.errors import UnsupportedFieldError
from pyruntime.plan import flags
from pyruntime.plan.setting import INT_MAX, UINT_MAX, Setting, counter, huge_page_bytes, kernel_number, parse_size
from pyruntime.spec.refusal import entry

_SIZES = frozenset(("memory.min", "memory.low", "memory.high", "memory.max", "memory.swap.max", "memory.swap.high", "memory.zswap.max"))
_HUGE_PAGES = re.compile(r"hugetlb\.([1-9]\d*[KMG]B)\.(rsvd\.)?max", re.ASCII)
# those that are in force, and those that are the cgroup's own
_LISTS = {"cpuset.cpus": flags.CHECK_WITHIN_EFFECTIVE, "cpuset.mems": flags.CHECK_WITHIN_EFFECTIVE,
          "cpuset.cpus.exclusive": flags.CHECK_WITHIN}
_REGION = re.compile(r"(\d{1,4})(?:-(\d{1,4}|N)(?::(\d{1,4})/([1-9]\d{0,3}))?)?", re.ASCII)
# more than any host has
_LAST_NUMBER = 8191
_DEVICE = re.compile(r"(\d{1,9}):(\d{1,9})", re.ASCII)
_RATE = re.compile(r"([rw])(bps|iops)=(max|[1-9]\d{0,18})", re.ASCII)
_PERCENTAGE = re.compile(r"(\d{1,3})(?:\.(\d{1,2}))?", re.ASCII)

_REFUSED = {
    **dict.fromkeys(("cgroup.kill", "cgroup.procs", "cgroup.threads"), "acts on processes, and is no limit"),
    **dict.fromkeys(("cpu.pressure", "io.pressure", "irq.pressure", "memory.peak", "memory.pressure", "memory.swap.peak"),
                    "holds only while the file is open that it was written to"),
    "cgroup.freeze": "would keep the container from starting; pausing does it later",
}
# what is done once, and says nothing afterwards
_ONCE = frozenset(("memory.reclaim",))


def unified_settings(files: Mapping[str, str], page_bytes: int, resources_path: str) -> Iterator[Setting]:
    """Each line of a text is one write: the kernel takes no more at once. resources_path: the JSON path of the resources.

    Files that are not known here are written all the same, and have to say then what was written, or something else than before.
    Raises UnsupportedFieldError for those that are no limits.
    """
    for file, text in files.items():
        json_path = entry("unified", file)
        if file in _REFUSED:
            raise UnsupportedFieldError(None, f"{resources_path}.{json_path}", _REFUSED[file])
        # an empty text is one, too: it sets some files back
        for line in [line for line in text.split("\n") if line.strip()] or ["\n"]:
            yield _setting(json_path, file, line, page_bytes)


def _setting(json_path: str, file: str, line: str, page_bytes: int) -> Setting:
    controller, words = file.partition(".")[0], line.split()
    huge_pages = _HUGE_PAGES.fullmatch(file)
    if (file in _SIZES or huge_pages) and len(words) == 1 and parse_size(words[0]) is not None:
        return counter(json_path, controller, file, line, huge_page_bytes(huge_pages[1]) if huge_pages else page_bytes, page_bytes)
    if file in _LISTS and (numbers := _number_list(line)) is not None:
        return Setting(json_path, controller, file, (line,), (numbers,), _LISTS[file] if numbers else flags.CHECK_LINES)
    if file in _LISTS or file in _ONCE:
        return Setting(json_path, controller, file, (line,))
    said = _FORMS[file](words) if file in _FORMS and words else None
    expected, check = said or (line.strip(), flags.CHECK_CHANGED)
    return Setting(json_path, controller, file, (line,), (expected,), check)


def _number_list(text: str) -> str | None:
    """What may be there then, as `0-3,7`; None for what begins with the host's last one (`N`), or is no list."""
    found = []
    for region in text.replace(",", " ").split():
        match = _REGION.fullmatch("0-N" if region == "all" else region)
        if match is None:
            return None
        first, last = int(match[1]), _LAST_NUMBER if match[2] == "N" else int(match[2] or match[1])
        if match[4]:
            used, group = int(match[3]), int(match[4])
            found += [f"{begin}-{min(begin + used - 1, last)}" for begin in range(first, last + 1, group)]
        else:
            found.append(f"{first}-{last}" if match[2] else str(first))
    return ",".join(found)


# How a line reads again, by its words: the text that is expected and a check of flags.CHECK_...; None for a line that the kernel refuses, or
# takes in a way that is not known here.
_Said = tuple[str, int] | None


def _number(words: list[str]) -> _Said:
    if len(words) != 1:
        return None
    sign = words[0][:1] if words[0][:1] in "+-" else ""
    number = "max" if words == ["max"] else kernel_number(words[0][len(sign):])
    return None if number is None else (f"{sign.strip('+')}{number}", flags.CHECK_LINES_ALONE)


def _word(words: list[str]) -> _Said:
    return (words[0], flags.CHECK_LINES_ALONE) if len(words) == 1 else None


def _quota(words: list[str]) -> _Said:
    """Without a period the cgroup's stays."""
    if not all(word.isascii() and word.isdecimal() or (i == 0 and word == "max") for i, word in enumerate(words)):
        return None
    return " ".join(word if word == "max" else str(int(word)) for word in words), flags.CHECK_LINES


def _percentage(words: list[str]) -> _Said:
    match = _PERCENTAGE.fullmatch(words[0])
    if len(words) != 1 or (match is None and words != ["max"]):
        return None
    hundredths = 10000 if match is None else int(match[1]) * 100 + int((match[2] or "").ljust(2, "0"))
    return "max" if hundredths == 10000 else f"{hundredths // 100}.{hundredths % 100:02}", flags.CHECK_LINES_ALONE


def _device(word: str) -> str | None:
    match = _DEVICE.fullmatch(word)
    return None if match is None else f"{int(match[1])}:{int(match[2])}"


def _weight(words: list[str]) -> _Said:
    """`default WEIGHT`, which may be the number alone, or `MAJOR:MINOR WEIGHT`; the default weight takes a device's line away."""
    key, value = ("default", words[0]) if len(words) == 1 else (words[0], words[1])
    device = key if key == "default" else _device(key)
    if len(words) > 2 or device is None or not value.isascii():
        return None
    if value == "default" and device != "default":
        return f"{device} default", flags.CHECK_NOT_OTHERWISE
    return (f"{device} {int(value)}", flags.CHECK_LINES) if value.isdecimal() else None


def _latency(words: list[str]) -> _Said:
    """`MAJOR:MINOR target=MICROSECONDS`. The kernel lists no device without one."""
    device, target = _device(words[0]), words[-1].removeprefix("target=")
    if len(words) != 2 or device is None or target == words[-1]:
        return None
    if target == "max":
        return f"{device} target=0", flags.CHECK_NOT_OTHERWISE
    if not (target.isascii() and target.isdecimal()):
        return None
    return f"{device} target={int(target)}", flags.CHECK_LINES if int(target) else flags.CHECK_NOT_OTHERWISE


def _rates(words: list[str]) -> _Said:
    """The last one of a kind holds. The kernel lists no device without a limit."""
    device, matches = _device(words[0]), [_RATE.fullmatch(word) for word in words[1:]]
    if device is None or not matches:
        return None
    rates: dict[str, str] = {}
    for match in matches:
        if match is None:
            return None
        kind, rate = f"{match[1]}{match[2]}", match[3]
        rates[kind] = "max" if rate == "max" or (match[2] == "iops" and int(rate) >= UINT_MAX) else rate
    line = " ".join((device, *(f"{kind}={rate}" for kind, rate in rates.items())))
    return line, flags.CHECK_LINES if set(rates.values()) != {"max"} else flags.CHECK_NOT_OTHERWISE


def _amount(words: list[str]) -> _Said:
    """`RESOURCE NUMBER`."""
    number = "max" if words[-1] == "max" else kernel_number(words[-1])
    return (f"{words[0]} {number}", flags.CHECK_LINES) if len(words) == 2 and number is not None else None


def _region_size(words: list[str]) -> _Said:
    """`REGION BYTES`."""
    size = parse_size(words[-1])
    return (f"{words[0]} {'max' if size == -1 else size}", flags.CHECK_LINES) if len(words) == 2 and size is not None else None


def _handles(words: list[str]) -> _Said:
    """`DEVICE hca_handle=NUMBER hca_object=NUMBER`; the largest that the kernel takes is no limit to it."""
    found = [words[0]]
    for word in words[1:]:
        key, _, value = word.partition("=")
        number = INT_MAX if value == "max" else kernel_number(value)
        if number is None:
            return None
        found.append(f"{key}={'max' if number >= INT_MAX else number}")
    return (" ".join(found), flags.CHECK_LINES) if len(words) > 1 else None


_FORMS: dict[str, Callable[[list[str]], _Said]] = {
    **dict.fromkeys(("cgroup.max.depth", "cgroup.max.descendants", "cgroup.pressure", "cpu.idle", "cpu.max.burst", "cpu.weight",
                     "cpu.weight.nice", "memory.oom.group", "memory.zswap.writeback", "pids.max"), _number),
    **dict.fromkeys(("cgroup.type", "cpuset.cpus.partition", "io.prio.class"), _word),
    **dict.fromkeys(("cpu.uclamp.max", "cpu.uclamp.min"), _percentage),
    **dict.fromkeys(("io.bfq.weight", "io.weight"), _weight),
    **dict.fromkeys(("dmem.low", "dmem.max", "dmem.min"), _region_size),
    "cpu.max": _quota, "io.latency": _latency, "io.max": _rates, "misc.max": _amount, "rdma.max": _handles,
}
