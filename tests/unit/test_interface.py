"""The 17 operations, as every runtime has them."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from pyruntime import CliRuntime, MockRuntime, NativeRuntime, Runtime

RUNTIMES = (NativeRuntime, CliRuntime, MockRuntime)
# arguments and their defaults, in order, by position or by name
OPERATIONS: dict[str, dict[str, Any]] = {
    "create_container": {"id": ..., "bundle_path": ..., "stdio_options": ...},
    "start_container": {"id": ...},
    "exec_process": {"id": ..., "process": ..., "stdio_options": ...},
    "kill_container": {"id": ..., "signal": ...},
    "delete_container": {"id": ..., "force": False},
    "delete_process": {"id": ..., "pid": ...},
    "pause_container": {"id": ...},
    "resume_container": {"id": ...},
    "get_container_state": {"id": ...},
    "container_exists": {"id": ...},
    "list_container_states": {},
    "get_running_container_processes": {"id": ...},
    "get_all_container_processes": {"id": ...},
    "wait_on_process": {"id": ..., "pid": ...},
    "wait_on_container": {"id": ...},
    "get_init_pid": {"id": ...},
    "get_stdio_pipes": {"id": ..., "pid": ...},
}


def arguments(operation: Any) -> dict[str, Any]:
    """Without those that are by name only, which an implementation may add if they have a default."""
    found = {}
    for parameter in list(inspect.signature(operation).parameters.values())[1:]:
        default = ... if parameter.default is parameter.empty else parameter.default
        if parameter.kind is parameter.KEYWORD_ONLY:
            assert default is not ..., parameter
        else:
            assert parameter.kind is parameter.POSITIONAL_OR_KEYWORD, parameter
            found[parameter.name] = default
    return found


def test_the_interface_has_17_operations() -> None:
    assert {name for name in vars(Runtime) if not name.startswith("_")} == set(OPERATIONS)
    assert len(OPERATIONS) == 17


@pytest.mark.parametrize("implementation", [Runtime, *RUNTIMES], ids=lambda implementation: implementation.__name__)
@pytest.mark.parametrize("name", OPERATIONS)
def test_arguments(implementation: type, name: str) -> None:
    expected = OPERATIONS[name]
    found = arguments(getattr(implementation, name))
    assert list(found.items()) == list(expected.items())


@pytest.mark.parametrize("implementation", RUNTIMES, ids=lambda implementation: implementation.__name__)
@pytest.mark.parametrize("name", OPERATIONS)
def test_types(implementation: type, name: str) -> None:
    """What is taken and returned is annotated alike, as text: the modules postpone evaluation."""
    wanted, found = (inspect.signature(getattr(kind, name)) for kind in (Runtime, implementation))
    assert found.return_annotation == wanted.return_annotation
    for argument in OPERATIONS[name]:
        assert found.parameters[argument].annotation == wanted.parameters[argument].annotation


def test_what_only_the_native_runtime_takes() -> None:
    extra = [(parameter.name, parameter.default) for parameter in inspect.signature(NativeRuntime.create_container).parameters.values()
             if parameter.kind is parameter.KEYWORD_ONLY]
    assert extra == [("no_pivot", False), ("keeps_keyring", False), ("finds_program", False), ("environment", ()), ("notifies", False)]


def test_default_root() -> None:
    parameters = inspect.signature(NativeRuntime).parameters
    assert next(iter(parameters)) == "root" and parameters["root"].default == "/run/pyruntime"
