"""Exit statuses of processes that were not forked here: one thread waits on their pidfds and collects them.

A container's process is started by a runtime command that has ended since, so it is a child of this process only where this
process is a child subreaper. An exited exec process that nobody collects keeps its whole pid namespace alive (init
cannot be reaped before it, pid_namespaces(7)), so each is collected when it ends, not when somebody asks.
"""

from __future__ import annotations

import fcntl
import os
import resource
import select
import signal
import struct
import threading

from pyruntime.interface import ProcessExitState
from pyruntime.notices import log

# struct pidfd_info, first published version: mask, cgroup id, eleven ids, exit code (linux/pidfd.h, since Linux 6.13;
# PIDFD_INFO_EXIT since 6.15). The number is _IOWR(0xff, 11, 64 bytes) where directions are encoded as on x86 and arm.
_PIDFD_GET_INFO = 0xC040FF0B
_PIDFD_INFO_EXIT = 1 << 3
_PIDFD_INFO = struct.Struct("=QQ11Ii")


def become_subreaper() -> None:
    """Make orphaned descendants children of this process (PR_SET_CHILD_SUBREAPER; it stays so)."""
    import prctl  # type: ignore[import-not-found,import-untyped,unused-ignore]

    if not prctl.get_child_subreaper():
        prctl.set_child_subreaper(True)


class WatchedProcess:
    """A process, waited for through a pidfd; any number of threads may wait, each gets the status.

    The pidfd is closed when the process has ended. A pid that is not there has ended with an unknown status.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._pidfd = -1
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._exit: ProcessExitState | None = None
        try:
            if not pid:
                raise ProcessLookupError
            self._pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            self._ended.set()
        else:
            _watch(self, self._pidfd)

    @property
    def has_ended(self) -> bool:
        """Whether it has ended; the status is then collected."""
        if not self._ended.is_set():
            self.collect()
        return self._ended.is_set()

    def wait(self) -> ProcessExitState | None:
        """Wait until it has ended; None if its status went to somebody else and the kernel keeps it no more."""
        self._ended.wait()
        return self._exit

    def send_signal(self, number: int) -> None:
        """Raises ProcessLookupError if it has ended."""
        with self._lock:
            if self._pidfd < 0:
                raise ProcessLookupError(self.pid)
            signal.pidfd_send_signal(self._pidfd, number)

    def disown(self) -> None:
        """The pid turned out to be another process's: treat it as ended with an unknown status."""
        with self._lock:
            if self._pidfd >= 0:
                _unwatch(self._pidfd)
                os.close(self._pidfd)
                self._pidfd = -1
        self._ended.set()

    def collect(self) -> None:
        """Take the status if the process has ended."""
        with self._lock:
            pidfd = self._pidfd
            if pidfd < 0 or not _has_ended(pidfd):
                return
            self._exit = _reap_child(self.pid, pidfd) or _read_zombie(self.pid, pidfd) or _read_kept(pidfd)
            self._pidfd = -1
            _unwatch(pidfd)
            os.close(pidfd)
        self._ended.set()


def children_of_this_process() -> list[int]:
    """Pids of all, whichever thread they are listed with."""
    pids: list[int] = []
    for thread in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{thread}/children") as file:
                pids += [int(pid) for pid in file.read().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return pids


def _has_ended(pidfd: int) -> bool:
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(0))


def _exit_state(status: int, usage: resource.struct_rusage | None = None) -> ProcessExitState:
    code = os.waitstatus_to_exitcode(status)
    ended_by = -code if code < 0 else None
    exit_code = 128 - code if code < 0 else code
    if usage is None:
        return ProcessExitState(exit_code, ended_by)
    return ProcessExitState(exit_code, ended_by, usage.ru_utime, usage.ru_stime, usage.ru_maxrss * 1024)


def _reap_child(pid: int, pidfd: int) -> ProcessExitState | None:
    try:
        # WNOWAIT: a zombie child of ours, whose pid cannot be reused before wait4, which alone tells the usage
        if os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
            return None
        _, status, usage = os.wait4(pid, 0)
    except ChildProcessError:
        return None
    return _exit_state(status, usage)


def _read_zombie(pid: int, pidfd: int) -> ProcessExitState | None:
    """The status of a zombie that its own parent has not reaped yet (proc_pid_stat(5), field 52)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            fields = stat.read().rpartition(b")")[2].split()
        signal.pidfd_send_signal(pidfd, 0)  # still there: the pid was not reused meanwhile
    except (OSError, ProcessLookupError):
        return None
    # without the right to trace it, field 52 reads as 0: not to be mistaken for a status
    return _exit_state(int(fields[49])) if fields[0] == b"Z" and os.geteuid() == 0 else None


def _read_kept(pidfd: int) -> ProcessExitState | None:
    """The status that the kernel keeps with a pidfd after the process was reaped."""
    answer = bytearray(_PIDFD_INFO.pack(_PIDFD_INFO_EXIT, *[0] * 13))
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, answer, True)
    except OSError:  # ENOTTY before 6.13; ESRCH where nothing is kept
        return None
    mask, *_, status = _PIDFD_INFO.unpack(answer)
    return _exit_state(status) if mask & _PIDFD_INFO_EXIT else None


# One thread for the whole process, started with the first process to watch.
_lock = threading.Lock()
_watched: dict[int, WatchedProcess] = {}  # by descriptor
_epoll: select.epoll | None = None
_thread_of = 0  # the pid of the process whose thread it is: a forked child has the descriptor but not the thread


def _watch(process: WatchedProcess, pidfd: int) -> None:
    global _epoll, _thread_of
    with _lock:
        if _epoll is None or _thread_of != os.getpid():
            _epoll = select.epoll()
            _thread_of = os.getpid()
            _watched.clear()
            threading.Thread(target=_collect_ended, args=(_epoll,), name="pyruntime-reaper", daemon=True).start()
        _watched[pidfd] = process
        _epoll.register(pidfd, select.EPOLLIN | select.EPOLLONESHOT)


def _unwatch(pidfd: int) -> None:
    with _lock:
        if _watched.pop(pidfd, None) is not None and _epoll is not None:
            # closing alone would not do it while a process that is just being forked holds a copy
            _epoll.unregister(pidfd)


def _collect_ended(epoll: select.epoll) -> None:
    while True:
        for pidfd, _ in epoll.poll():
            with _lock:
                process = _watched.get(pidfd)
            try:
                if process is not None:
                    process.collect()
            except Exception:
                log.exception("process %d has ended, but cannot be collected", process.pid if process else 0)
