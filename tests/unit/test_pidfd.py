"""A pidfd that threads share keeps its number while anybody uses it."""

from __future__ import annotations

import os
import threading

import pytest

from pyruntime.runtimes.pidfd import SharedPidfd


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_closed_when_given_up() -> None:
    descriptor = os.pidfd_open(os.getpid())
    pidfd = SharedPidfd(descriptor)
    with pidfd as held:
        assert held == descriptor and is_open(descriptor)
    pidfd.give_up()
    assert not is_open(descriptor)
    again = os.dup(0)  # has the number now
    pidfd.give_up()
    assert is_open(again)
    os.close(again)
    with pytest.raises(ProcessLookupError), pidfd:
        pass


def test_closed_by_the_last_user() -> None:
    descriptor = os.pidfd_open(os.getpid())
    pidfd = SharedPidfd(descriptor)
    entered, may_leave = threading.Barrier(3), threading.Event()

    def use() -> None:
        with pidfd:
            entered.wait()
            may_leave.wait()

    threads = [threading.Thread(target=use) for _ in range(2)]
    for thread in threads:
        thread.start()
    entered.wait()
    pidfd.give_up()
    assert is_open(descriptor)
    with pytest.raises(ProcessLookupError), pidfd:
        pass
    may_leave.set()
    for thread in threads:
        thread.join()
    assert not is_open(descriptor)
