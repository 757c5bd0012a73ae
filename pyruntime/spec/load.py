"""From bytes to a checked configuration; every refusal is an InvalidBundleError."""

from __future__ import annotations

import errno
import functools
import os
import stat
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec

from pyruntime.errors import InvalidBundleError, UnsupportedFieldError
from pyruntime.spec.checks import check_host, check_intel_rdt, check_platform, check_process, check_resources, check_spec
from pyruntime.spec.checks.text import check_plain_text, check_text
from pyruntime.spec.container import Spec
from pyruntime.spec.isolation import IntelRdt
from pyruntime.spec.process import Process
from pyruntime.spec.refusal import Refused
from pyruntime.spec.resources import Resources

S = TypeVar("S", bound=msgspec.Struct)

LARGEST_CONFIG_BYTES: Final = 64 * 2**20
_LIMIT_MAY_BE_0: Final = 3  # minor version of runtime-spec


@functools.cache
def _decoder_of(section: type[S]) -> msgspec.json.Decoder[S]:
    """Made where it is used: that takes longer than reading a configuration."""
    return msgspec.json.Decoder(section)


def load_bundle(bundle_path: str) -> Spec:
    """Read and check `<bundle_path>/config.json` (runtime-spec, bundle.md).

    Raises InvalidBundleError, with `file`, and with `json_path` unless it cannot be read or is not JSON.
    """
    return load_spec(read_config(bundle_path), os.path.join(bundle_path, "config.json"))


def load_spec(data: bytes, file: str | None = None) -> Spec:
    """Decode and check the content of a config.json; `file` is only told in errors. Raises InvalidBundleError."""
    try:
        spec = _decode(data, Spec)
        check_spec(spec)
    except Refused as refused:
        raise _error(file, refused) from None
    return _without_unset_limit(spec)


def _without_unset_limit(spec: Spec) -> Spec:
    """Before runtime-spec 1.3 `pids.limit` could not be left out, and who writes an older version means none by 0: so podman does for
    `--pids-limit=-1`."""
    resources = spec.linux.resources
    if resources is None or resources.pids is None or resources.pids.limit != 0 or int(spec.oci_version.split(".")[1]) >= _LIMIT_MAY_BE_0:
        return spec
    limits = msgspec.structs.replace(resources, pids=None)
    return msgspec.structs.replace(spec, linux=msgspec.structs.replace(spec.linux, resources=limits))


def refuse_for_host(spec: Spec, file: str | None = None) -> None:
    """Whoever makes a container of what was loaded calls this first: a good document can be for another platform, or set something that
    would be the host's, for want of the container's own namespace. Raises InvalidBundleError, UnsupportedFieldError."""
    try:
        check_host(spec)
    except Refused as refused:
        raise _error(file, refused) from None


def decode_process(process: Process | Mapping[str, Any] | bytes) -> Process:
    """Check a `process` for exec: as an object, in config.json's form as plain objects, or as JSON.

    A missing `user` is 0:0. Raises InvalidBundleError, without `file`, and with `json_path` from the object: `$.args`.
    """
    try:
        decoded = _from_either(process, Process)
        check_platform(decoded, "$")
        check_process(decoded, "$")
    except Refused as refused:
        raise _error(None, refused) from None
    return decoded


def decode_resources(resources: Resources | Mapping[str, Any] | bytes) -> Resources:
    """The same for new `linux.resources` of a running container."""
    try:
        decoded = _from_either(resources, Resources)
        check_resources(decoded, "$")
    except Refused as refused:
        raise _error(None, refused) from None
    return decoded


def decode_intel_rdt(rdt: IntelRdt | Mapping[str, Any]) -> IntelRdt:
    """The same for a new `linux.intelRdt` of a running container, but with JSON paths of config.json: `$.linux.intelRdt.memBwSchema`."""
    try:
        decoded = _from_either(rdt, IntelRdt)
        check_intel_rdt(decoded)
    except Refused as refused:
        path = (refused.json_path or "$").removeprefix("$.linux.intelRdt").removeprefix("$")
        raise _error(None, Refused(f"$.linux.intelRdt{path}", refused.reason, unsupported=refused.unsupported)) from None
    return decoded


def _error(file: str | None, refused: Refused) -> InvalidBundleError:
    kind = UnsupportedFieldError if refused.unsupported else InvalidBundleError
    return kind(file, refused.json_path, refused.reason)


def read_config(bundle_path: str) -> bytes:
    """The content of `<bundle_path>/config.json`. Raises InvalidBundleError if it cannot be read or is too large."""
    file = os.path.join(bundle_path, "config.json")
    try:
        # O_NONBLOCK: opening must not wait for the writer of a FIFO
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR) and not os.path.isdir(bundle_path):
            problem = "is not a directory" if os.path.lexists(bundle_path) else "does not exist"
            raise InvalidBundleError(bundle_path, None, f"the bundle directory {problem}") from error
        raise InvalidBundleError(file, None, _cannot_read(error)) from error
    except ValueError as error:
        raise InvalidBundleError(file, None, "the path contains a NUL character") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise InvalidBundleError(file, None, "cannot be read: it is not a regular file")
        # one read for all that do not grow meanwhile
        wanted = min(status.st_size, LARGEST_CONFIG_BYTES) + 1
        data = os.read(descriptor, wanted)
        if len(data) == wanted:
            with os.fdopen(descriptor, "rb", closefd=False) as rest:
                data += rest.read(LARGEST_CONFIG_BYTES + 1 - len(data))
    except OSError as error:
        raise InvalidBundleError(file, None, _cannot_read(error)) from error
    finally:
        os.close(descriptor)
    if len(data) > LARGEST_CONFIG_BYTES:
        raise InvalidBundleError(file, None, f"is larger than {LARGEST_CONFIG_BYTES} bytes")
    return data


def _cannot_read(error: OSError) -> str:
    name = errno.errorcode.get(error.errno or 0, f"errno {error.errno}")
    return f"cannot be read: {name}: {error.strerror}"


def _decode(data: bytes, to: type[S]) -> S:
    try:
        # msgspec skips unknown fields without looking at their encoding
        text = data.decode()
    except UnicodeDecodeError as error:
        raise Refused(None, f"is not UTF-8: byte {error.start} is 0x{data[error.start]:02x}") from None
    try:
        try:
            section: S = _decoder_of(to).decode(text)
        except msgspec.ValidationError:
            section = _convert_tolerantly(msgspec.json.decode(text), to)
    except msgspec.DecodeError as error:
        raise Refused(None, _malformed(text, str(error))) from None
    except RecursionError:
        raise Refused(None, "is nested too deeply") from None
    # JSON cannot have a NUL in any other form
    if "\\u0000" in text:
        check_text(section, "$")
    return section


def _convert_tolerantly(tree: object, to: type[S]) -> S:
    # its regular expressions are compiled for the few that need them
    from pyruntime.spec.explain import convert_tolerantly

    return convert_tolerantly(tree, to)


def _malformed(text: str, message: str) -> str:
    """Where the text ceases to be JSON, in lines and columns from 1."""
    if not text.strip():
        return "is empty"
    if text.startswith("\ufeff"):
        return "is not JSON: it starts with a byte order mark"
    # only wanted here
    import json

    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return f"is not JSON: {error.msg[:1].lower()}{error.msg[1:]}, at line {error.lineno}, column {error.colno}"
    except (RecursionError, ValueError):
        pass
    # what the standard library lets pass: halves of surrogate pairs, NaN, integers of thousands of digits
    if "truncated" in message:
        return "is not JSON: half of a surrogate pair at the end of a string"
    message = message.removeprefix("JSON is malformed: ")
    return f"is not JSON: {message[:1].lower()}{message[1:]}"


def _from_either(value: S | Mapping[str, Any] | bytes, to: type[S]) -> S:
    if isinstance(value, bytes | bytearray):
        return _decode(bytes(value), to)
    # an object too, since nothing checked the types of its fields
    tree = msgspec.to_builtins(value) if isinstance(value, to) else value
    try:
        try:
            section = msgspec.convert(tree, to)
        except msgspec.ValidationError:
            section = _convert_tolerantly(tree, to)
    except UnicodeEncodeError:
        # where a key or an enumerated value is expected; anywhere else such a string is the caller's bytes
        check_plain_text(tree, "$")
        raise Refused("$", "holds a key or a value with a surrogate, which cannot be right there") from None
    except RecursionError:
        raise Refused("$", "is nested too deeply") from None
    try:
        is_plain = b"\\u0000" not in msgspec.json.encode(section)
    except UnicodeEncodeError:
        is_plain = False
    if not is_plain:
        check_text(section, "$")
    return section
