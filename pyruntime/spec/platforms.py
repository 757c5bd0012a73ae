"""Sections of config.json for other platforms than Linux: what may stand in them (runtime-spec, config-freebsd.md, config-solaris.md,
config-vm.md, config-windows.md, config-zos.md).

A document for another platform is a good one, and nothing here executes it. Imported only where there is such a section.
"""

import enum
from typing import Annotated, Any

from msgspec import Meta, field

from pyruntime.spec.checks.integers import check_uint64
from pyruntime.spec.explain import convert_tolerantly
from pyruntime.spec.fields import Section, UInt16, UInt32, UInt64

UInt8 = Annotated[int, Meta(ge=0, le=2**8 - 1)]


class SharingMode(enum.StrEnum):
    """Of a jail's part: off, its own, or that of its parent."""

    DISABLE = "disable"
    NEW = "new"
    INHERIT = "inherit"


class NeededSharingMode(enum.StrEnum):
    """Of a part that cannot be off."""

    NEW = "new"
    INHERIT = "inherit"


class FreeBSDDevice(Section, frozen=True, kw_only=True):
    path: str | None = None
    mode: Annotated[int, Meta(ge=0, le=0o7777)] | None = None


class JailAllow(Section, frozen=True, kw_only=True):
    set_hostname: bool = False
    raw_sockets: bool = False
    chflags: bool = False
    mount: tuple[str, ...] = ()
    quotas: bool = False
    socket_af: bool = False
    mlock: bool = False
    reserved_ports: bool = False
    suser: bool = False


class Jail(Section, frozen=True, kw_only=True):
    parent: str | None = None
    host: NeededSharingMode | None = None
    ip4: SharingMode | None = None
    ip4_addr: tuple[str, ...] = field(default=(), name="ip4Addr")
    ip6: SharingMode | None = None
    ip6_addr: tuple[str, ...] = field(default=(), name="ip6Addr")
    vnet: NeededSharingMode | None = None
    interface: str | None = None
    vnet_interfaces: tuple[str, ...] = ()
    sysvmsg: SharingMode | None = None
    sysvsem: SharingMode | None = None
    sysvshm: SharingMode | None = None
    enforce_statfs: UInt8 | None = None
    allow: JailAllow | None = None


class FreeBSD(Section, frozen=True, kw_only=True):
    devices: tuple[FreeBSDDevice, ...] = ()
    jail: Jail | None = None


class CappedCPU(Section, frozen=True, kw_only=True):
    ncpus: str | None = None


class CappedMemory(Section, frozen=True, kw_only=True):
    physical: str | None = None
    swap: str | None = None


class Anet(Section, frozen=True, kw_only=True):
    linkname: str | None = None
    lower_link: str | None = None
    allowed_address: str | None = None
    configure_allowed_address: str | None = None
    defrouter: str | None = None
    mac_address: str | None = None
    link_protection: str | None = None


class Solaris(Section, frozen=True, kw_only=True):
    milestone: str | None = None
    limitpriv: str | None = None
    max_shm_memory: str | None = None
    capped_cpu: CappedCPU | None = field(default=None, name="cappedCPU")
    capped_memory: CappedMemory | None = None
    anet: tuple[Anet, ...] = ()


class ImageFormat(enum.StrEnum):
    """Of a machine's disk."""

    RAW = "raw"
    QCOW2 = "qcow2"
    VDI = "vdi"
    VMDK = "vmdk"
    VHD = "vhd"


class Hypervisor(Section, frozen=True, kw_only=True):
    path: str
    parameters: tuple[str, ...] = ()


class Kernel(Section, frozen=True, kw_only=True):
    path: str
    parameters: tuple[str, ...] = ()
    initrd: str | None = None


class Image(Section, frozen=True, kw_only=True):
    path: str
    format: ImageFormat


class IOMem(Section, frozen=True, kw_only=True):
    first_gfn: UInt64 | None = field(default=None, name="firstGFN")
    first_mfn: UInt64 = field(name="firstMFN")
    nr_mfns: UInt64 = field(name="nrMFNs")


class HWConfig(Section, frozen=True, kw_only=True):
    device_tree: str | None = None
    vcpus: UInt32 | None = None
    memory: UInt64 | None = None
    dtdevs: tuple[str, ...] = ()
    iomems: tuple[IOMem, ...] = ()
    irqs: tuple[UInt32, ...] = ()


class VM(Section, frozen=True, kw_only=True):
    hypervisor: Hypervisor | None = None
    kernel: Kernel
    image: Image | None = None
    hw_config: HWConfig | None = None


class WindowsIDType(enum.StrEnum):
    """How the id of a device is to be read."""

    CLASS = "class"


class WindowsDevice(Section, frozen=True, kw_only=True):
    id: str
    id_type: WindowsIDType


class WindowsMemory(Section, frozen=True, kw_only=True):
    limit: UInt64 | None = None


class WindowsAffinity(Section, frozen=True, kw_only=True):
    mask: UInt64
    group: UInt32


class WindowsCPU(Section, frozen=True, kw_only=True):
    count: UInt64 | None = None
    shares: UInt16 | None = None
    maximum: UInt16 | None = None
    # an object in the schema, and an array in the text
    affinity: tuple[WindowsAffinity, ...] = ()


class WindowsStorage(Section, frozen=True, kw_only=True):
    iops: UInt64 | None = None
    bps: UInt64 | None = None
    sandbox_size: UInt64 | None = None


class WindowsResources(Section, frozen=True, kw_only=True):
    memory: WindowsMemory | None = None
    cpu: WindowsCPU | None = None
    storage: WindowsStorage | None = None


class WindowsNetwork(Section, frozen=True, kw_only=True):
    endpoint_list: tuple[str, ...] = ()
    allow_unqualified_dns_query: bool = field(default=False, name="allowUnqualifiedDNSQuery")
    dns_search_list: tuple[str, ...] = field(default=(), name="DNSSearchList")
    network_shared_container_name: str | None = None
    network_namespace: str | None = None


class HyperV(Section, frozen=True, kw_only=True):
    utility_vm_path: str | None = field(default=None, name="utilityVMPath")


class Windows(Section, frozen=True, kw_only=True):
    layer_folders: Annotated[tuple[str, ...], Meta(min_length=1)]
    devices: tuple[WindowsDevice, ...] = ()
    resources: WindowsResources | None = None
    network: WindowsNetwork | None = None
    credential_spec: dict[str, Any] | None = None
    servicing: bool = False
    ignore_flushes_during_boot: bool = False
    hyperv: HyperV | None = None


class ZOSNamespaceType(enum.StrEnum):
    """A kind of namespace of z/OS."""

    MOUNT = "mount"
    PID = "pid"
    UTS = "uts"
    IPC = "ipc"


class ZOSNamespace(Section, frozen=True, kw_only=True):
    type: ZOSNamespaceType
    path: str | None = None


class ZOS(Section, frozen=True, kw_only=True):
    namespaces: tuple[ZOSNamespace, ...] = ()


class OtherPlatforms(Section, frozen=True, kw_only=True):
    """The sections of a config.json that are not Linux's."""

    freebsd: FreeBSD | None = None
    solaris: Solaris | None = None
    vm: VM | None = None
    windows: Windows | None = None
    zos: ZOS | None = None


def check_section(platform: str, section: dict[str, Any]) -> None:
    """Raises Refused."""
    convert_tolerantly({platform: section}, OtherPlatforms)
    _check_integers(section, f"$.{platform}")


def _check_integers(value: object, json_path: str) -> None:
    if isinstance(value, dict):
        for key, element in value.items():
            _check_integers(element, f"{json_path}.{key}")
    elif isinstance(value, list):
        for i, element in enumerate(value):
            _check_integers(element, f"{json_path}[{i}]")
    elif isinstance(value, int):
        check_uint64(value, json_path)
