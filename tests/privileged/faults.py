"""System calls that fail on purpose, in one thread and in the processes that it makes."""

from __future__ import annotations

import ctypes
import errno
import threading
from collections.abc import Callable
from typing import TypeVar

from imports import import_all

T = TypeVar("T")

# seccomp.h of libseccomp
_ALLOW, _ERRNO, _EQUAL, _CTL_NNP = 0x7FFF0000, 0x00050000, 4, 3


class _Comparison(ctypes.Structure):
    _fields_ = (("argument", ctypes.c_uint), ("operator", ctypes.c_int), ("value", ctypes.c_uint64),
                ("value_two", ctypes.c_uint64))


def _library() -> ctypes.CDLL:
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = (ctypes.c_uint32,)
    library.seccomp_attr_set.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32)
    library.seccomp_syscall_resolve_name.argtypes = (ctypes.c_char_p,)
    library.seccomp_rule_add_array.argtypes = (ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint,
                                               ctypes.POINTER(_Comparison))
    library.seccomp_load.argtypes = library.seccomp_release.argtypes = (ctypes.c_void_p,)
    return library


def in_thread(action: Callable[[], T]) -> T:
    """What it returns or raises; what the kernel keeps by thread ends with it."""
    results: list[T] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            results.append(action())
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]
    return results[0]


class Fault:
    """`Fault("unshare", "ENOSPC", {0: CLONE_NEWCGROUP})`: the call with those arguments fails with that error."""

    def __init__(self, name: str, error: str, arguments: dict[int, int] | None = None) -> None:
        self.name = name
        self.error = error
        self.arguments = arguments or {}

    def _install(self) -> None:
        """For the calling thread and what it clones, for ever. Needs CAP_SYS_ADMIN: no_new_privs stays unset."""
        library = _library()
        comparisons = (_Comparison * len(self.arguments))(*(
            _Comparison(index, _EQUAL, value & 0xFFFFFFFFFFFFFFFF, 0) for index, value in self.arguments.items()))
        number = library.seccomp_syscall_resolve_name(self.name.encode())
        assert number >= 0, self.name
        context = library.seccomp_init(_ALLOW)
        try:
            action = _ERRNO | getattr(errno, self.error)
            for got in (library.seccomp_attr_set(context, _CTL_NNP, 0),
                        library.seccomp_rule_add_array(context, action, number, len(comparisons), comparisons),
                        library.seccomp_load(context)):
                assert got == 0, f"libseccomp: {errno.errorcode.get(-got, got)}"
        finally:
            library.seccomp_release(context)

    def during(self, action: Callable[[], T]) -> T:
        """Do it in a thread of its own, where the call fails; the filter ends with the thread."""
        import_all()  # else what is imported on the way fails first
        def run() -> T:
            self._install()
            return action()

        return in_thread(run)

    def __str__(self) -> str:
        return f"{self.name}-{self.error}"

