"""Standard streams: pipes, the null device, descriptors of the caller's."""

from __future__ import annotations

import os

import pytest

from pyruntime.interface import Status, StdioOptions, StdioPipes
from pyruntime.testing.case import Case, ContractCase, is_readable, read_all, read_line, specifies, within_time

ALL_PIPES = StdioOptions(create_in=True, create_out=True, create_err=True)
CAT = ("/bin/cat",)


class Stdio(ContractCase):
    """For init and for exec processes alike."""

    @pytest.fixture(params=["init", "exec"])
    def who(self, request: pytest.FixtureRequest) -> str:
        """Which process the test is about."""
        return str(request.param)

    def start(self, case: Case, who: str, args: tuple[str, ...], stdio: StdioOptions) -> int:
        """Init or an exec process of c1."""
        if who == "init":
            return case.run("c1", args, stdio)
        case.container_in(Status.RUNNING)
        return case.exec("c1", args, stdio)

    def test_bytes_both_ways(self, case: Case, who: str) -> None:
        pid = self.start(case, who, CAT, ALL_PIPES)
        pipes = case.runtime.get_stdio_pipes("c1", pid)
        assert pipes.in_ is not None and pipes.out is not None and pipes.err is not None
        assert case.runtime.get_stdio_pipes("c1", pid) == pipes
        with pipes.in_, pipes.out, pipes.err:
            pipes.in_.write(b"one\n")
            assert read_line(pipes.out) == b"one\n"
            pipes.in_.write(bytes(range(256)) * 4 + b"\n")
            assert read_line(pipes.out) + read_line(pipes.out) == bytes(range(256)) + bytes(range(11))
            pipes.in_.close()
            assert read_all(pipes.out) == (bytes(range(256)) * 4 + b"\n")[256 + 11:]
            assert read_all(pipes.err) == b""
        assert within_time(lambda: case.runtime.wait_on_process("c1", pid)).exit_code == 0

    @specifies(62)
    def test_no_streams(self, case: Case, who: str) -> None:
        pid = self.start(case, who, CAT, case.no_streams)
        assert case.runtime.get_stdio_pipes("c1", pid) == StdioPipes()
        # the null device is at its end
        assert within_time(lambda: case.runtime.wait_on_process("c1", pid)).exit_code == 0

    @pytest.mark.parametrize("name", ["in", "out", "err"])
    def test_one_stream(self, case: Case, who: str, name: str) -> None:
        pid = self.start(case, who, CAT, StdioOptions(**{f"create_{name}": True}))
        pipes = case.runtime.get_stdio_pipes("c1", pid)
        given = {"in": pipes.in_, "out": pipes.out, "err": pipes.err}
        assert [key for key, file in given.items() if file is not None] == [name]
        if pipes.in_ is not None:
            pipes.in_.close()
        for file in (pipes.out, pipes.err):
            if file is not None:
                with file:
                    assert read_all(file) == b""
        assert within_time(lambda: case.runtime.wait_on_process("c1", pid)).exit_code == 0

    @specifies(62)
    def test_descriptors_of_the_caller(self, case: Case, who: str) -> None:
        child_in, in_ = os.pipe()
        out, child_out = os.pipe()
        try:
            pid = self.start(case, who, CAT, StdioOptions(in_fd=child_in, out_fd=child_out))
            assert case.runtime.get_stdio_pipes("c1", pid) == StdioPipes()
            os.write(in_, b"through\n")
            with open(out, "rb", buffering=0, closefd=False) as file:
                assert read_line(file) == b"through\n"
            os.fstat(child_in), os.fstat(child_out)  # still the caller's
            os.close(in_)
            in_ = -1
            os.close(child_in)
            child_in = -1
            assert within_time(lambda: case.runtime.wait_on_process("c1", pid)).exit_code == 0
        finally:
            for descriptor in (child_in, in_, out, child_out):
                if descriptor >= 0:
                    os.close(descriptor)

    def test_output_is_there_after_the_end(self, case: Case) -> None:
        pid = case.run("c1", ["/bin/echo", "last words"], StdioOptions(create_out=True))
        out = case.runtime.get_stdio_pipes("c1", pid).out
        assert within_time(lambda: case.runtime.wait_on_container("c1")).exit_code == 0
        assert out is not None
        assert read_all(out) == b"last words\n"
        case.runtime.delete_container("c1")
        assert out.closed

    def test_pipes_that_nobody_asks_for(self, case: Case) -> None:
        case.run("c1", ["/bin/echo", "unheard"], ALL_PIPES)
        assert within_time(lambda: case.runtime.wait_on_container("c1")).exit_code == 0
        case.runtime.delete_container("c1")

    def test_paused_container_is_silent(self, case: Case) -> None:
        pid = case.run("c1", CAT, ALL_PIPES)
        pipes = case.runtime.get_stdio_pipes("c1", pid)
        assert pipes.in_ is not None and pipes.out is not None and pipes.err is not None
        with pipes.in_, pipes.out, pipes.err:
            pipes.in_.write(b"before\n")
            assert read_line(pipes.out) == b"before\n"
            case.runtime.pause_container("c1")
            pipes.in_.write(b"meanwhile\n")
            readable = is_readable(pipes.out, 0.1)
            case.runtime.resume_container("c1")
            assert not readable
            assert read_line(pipes.out) == b"meanwhile\n"

