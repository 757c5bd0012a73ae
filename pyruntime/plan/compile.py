"""Spec and host to plan: the order of everything."""

from __future__ import annotations

import os

import msgspec

from pyruntime.cgroups.paths import DEFAULT_SLICE, USER_SLICE, Cgroup, Unit, cgroup_path_of, cgroups_of, rootless_path_of, unit_of
from pyruntime.errors import InvalidBundleError, UnsupportedFieldError
from pyruntime.host import Host, Unprivileged
from pyruntime.plan import flags
from pyruntime.plan import operations as op
from pyruntime.plan.draft import Draft
from pyruntime.plan.filesystem import FilesystemCompiler
from pyruntime.plan.hooks import CREATE_UMASK, has_create_hooks, run_in_container
from pyruntime.plan.id_maps import UIDS, first_ids_of, keeps_groups, setgroups_of, write_id_maps
from pyruntime.plan.operations import Plan, Slot
from pyruntime.plan.process import (
    apparmor_profile,
    capabilities_for,
    console,
    environment,
    execute,
    find,
    install,
    join_keyring,
    limit_process,
    selinux_label,
    set_apparmor_profile,
    set_selinux_label,
    take_identity,
)
from pyruntime.plan.resources import join_cgroups, make_cgroups
from pyruntime.plan.seccomp import Filter
from pyruntime.spec import IntelRdt, Linux, MemoryPolicy, Mount, Personality, Process, Spec, refuse_for_host, sysctl_namespace, sysctl_path
from pyruntime.state.names import NOTIFY_DIRECTORY, NOTIFY_SOCKET, START_SOCKET


class Place(msgspec.Struct, frozen=True):
    """Where the container is: all paths absolute and of the host.

    units   systemd's own cgroup, from the hierarchies' roots, where the container gets a unit; None where it has none
    """

    id: str
    bundle_path: str
    rootfs_path: str
    state_directory: str
    units: str | None = None


class Manner(msgspec.Struct, frozen=True):
    """How a container is created, besides what its bundle says.

    no_pivot        the root is covered and not pivoted, for a host whose root is an initramfs
    keeps_keyring   the processes stay in the caller's session keyring
    finds_program   a program that is missing, or may not be executed, fails the creation and not the start
    preserve_fds    the caller's descriptors 3 .. 2+n are passed on
    environment     variables that the program has besides those of `process.env`
    notifies        the program gets a socket for sd_notify(3), in NOTIFY_DIRECTORY of the container's state directory
    """

    no_pivot: bool = False
    keeps_keyring: bool = False
    finds_program: bool = False
    preserve_fds: int = 0
    environment: tuple[str, ...] = ()
    notifies: bool = False


def unit_for(spec: Spec, id: str, host: Host) -> Unit:
    """The container's systemd unit; of the user's manager where the caller has no privileges."""
    path = spec.linux.cgroups_path or None
    try:
        return unit_of(path, id, USER_SLICE if host.is_rootless else DEFAULT_SLICE)
    except ValueError as error:
        what = repr(path) if path else "is not given, so that the id"
        raise InvalidBundleError(None, "$.linux.cgroupsPath", f"{what} {error}") from error


def cgroup_path_for(spec: Spec, id: str, host: Host, units: str | None = None) -> str | None:
    """Of the container's cgroup, from the hierarchies' roots; None where it has none. units: as in Place."""
    if units is not None:
        return units + unit_for(spec, id, host).path
    path = spec.linux.cgroups_path
    if path and path[0] != "/" and path.count(":") == 2:
        raise InvalidBundleError(None, "$.linux.cgroupsPath", f"{path!r} is of the systemd cgroup driver, which this runtime was not "
                                 "told to use")
    if path and ".." in path.split("/"):
        raise InvalidBundleError(None, "$.linux.cgroupsPath", f"{path!r} leads out of the hierarchy")
    if path and not path.strip("/"):
        raise InvalidBundleError(None, "$.linux.cgroupsPath", f"{path!r} is where the host's processes are")
    return rootless_path_of(host, path, id) if host.is_rootless else cgroup_path_of(path, id)


def namespace_bits(spec: Spec) -> int:
    """CLONE_NEW... of the namespaces that are not the host's, new or joined."""
    bits = 0
    for namespace in spec.linux.namespaces:
        bits |= flags.NAMESPACES[namespace.type]
    return bits


def compile(spec: Spec, host: Host, place: Place, manner: Manner = Manner(), filter: Filter | None = None) -> Plan:
    """The plan of a new container. filter: what was made of `linux.seccomp`.

    Raises UnsupportedFieldError for what is valid but not executed yet, InvalidBundleError for what cannot be.
    """
    refuse_for_host(spec)
    _refuse_unsupported(spec, host)
    if manner.notifies:
        spec = _with_notify_socket(spec, place)
    if manner.environment and spec.process is not None:
        spec = _with_variables(spec, manner.environment)
    linux = spec.linux
    in_user_namespace = bool(namespace_bits(spec) & flags.CLONE_NEWUSER)
    # namespaces of a user namespace are made with it, or once it was joined
    draft = Draft(overlaps=not in_user_namespace, is_rootless=host.is_rootless)
    # the first that the init gets: what it closes before it waits has higher numbers
    start = draft.source_slot()
    cgroups = cgroups_of(host, cgroup_path_for(spec, place.id, host, place.units))
    new, joined = _open_namespaces(draft, spec)
    if host.is_rootless:
        from pyruntime.plan.rootless import refuse_without_privileges  # nobody else needs it

        refuse_without_privileges(spec, host)
    if not cgroups:
        from pyruntime.plan.without_cgroups import refuse_cgroups  # few have none

        refuse_cgroups(linux, host)
    if draft.overlaps:
        _make_namespaces(draft, new)
    elif "user" not in joined:
        draft.clone_flags = sum(flags.NAMESPACES[name] for name in new - {"cgroup", "ipc", "time"})
    make_cgroups(draft, cgroups, linux.resources, host.page_size, are_a_units=place.units is not None, has_path=bool(linux.cgroups_path),
                 limits_devices=not host.is_rootless)
    if host.is_unified and "cgroup" in new:
        from pyruntime.plan.cgroup_owner import own_cgroups  # on v2 alone

        own_cgroups(draft, cgroups, spec, host)
    join_cgroups(draft, cgroups)
    if linux.intel_rdt is not None:
        join_groups_of(draft, linux.intel_rdt, host, place.id)
    # where the caller may run is not where the container may
    draft.init.append(op.ResetAffinity(""))
    filesystem = FilesystemCompiler(draft, spec, place.bundle_path, place.rootfs_path, cgroups, in_user_namespace or host.in_user_namespace,
                                    host.kernel, joined.get("user"))
    draft.sources.append(op.ListenForStart("", place.state_directory.encode(), START_SOCKET.encode(), start))
    if spec.process is not None:
        limit_process(draft, spec.process, "$.process", in_user_namespace)
    if has_create_hooks(spec.hooks) and "mount" in new:
        filesystem.root_place = draft.init_slot()
        if "user" in new:
            draft.open_early.append(op.OpenRootPlace("$.root.path", os.fsencode(place.rootfs_path), filesystem.root_place))
    _enter_namespaces(draft, linux, new, joined, host.caller, int(keeps_groups(spec.annotations)))
    if linux.net_devices:
        _await_devices(draft, linux)
    profile = apparmor_profile(spec.process, "$.process", host.has_apparmor) if spec.process is not None else None
    label = selinux_label(spec.process, "$.process", host.has_selinux) if spec.process is not None else None
    proc = _write_to_proc(draft, linux, needs_proc=profile is not None or label is not None)
    _change_root(draft, filesystem, joined, manner.no_pivot, place, enters_pid_first=in_user_namespace)
    if draft.offered and ("pid" in joined or linux.net_devices):
        raise UnsupportedFieldError(None, draft.offered[0].json_path, "is of a source in the root file system, whose ids cannot be mapped in a "
                                    "user namespace together with a joined pid namespace or network devices")
    _finish_environment(draft, spec, new)
    if not manner.keeps_keyring:
        join_keyring(draft, place.id, "$.process", label, proc)
    hooks = [op.AnnounceHooks("$.hooks")] if spec.hooks.start_container or spec.hooks.poststart else []
    if spec.process is None:
        draft.init += [op.StartSession("", 0), op.AwaitStart("", start), *hooks, op.RefuseStart("$.process")]
        return draft.finish(manner.preserve_fds, spec.hooks)
    _set_surroundings(draft, linux.memory_policy, linux.personality)
    set_apparmor_profile(draft, "$.process", profile, proc)
    set_selinux_label(draft, "$.process", label, proc)
    keeps, revokes = capabilities_for(spec.process, filter)
    take_identity(draft, spec.process, "$.process", make_cwd=False, setgroups=setgroups_of(linux, spec.annotations, host), keeps=keeps)
    if manner.finds_program:
        find(draft, spec.process, "$.process")
    draft.init.append(op.StartSession("", int(spec.process.terminal)))
    _schedule(draft, spec.process, "$.process")
    # where others may trace it, it does not wait with a capability that it is not to have
    early = [install(filter, revokes, flags.FILTER_BEFORE_START)] if filter is not None and revokes and "pid" not in new else []
    draft.init += [*early, op.AwaitStart("", start), *hooks]
    late = [install(filter, revokes, flags.FILTER_BEFORE_PROGRAM)] if filter is not None and not early else []
    draft.init += run_in_container(spec, place.id, place.bundle_path, "startContainer", "created", -1, environment(spec.process),
                                   is_filtered=bool(late))
    execute(draft, spec.process, "$.process", late)
    return draft.finish(manner.preserve_fds, spec.hooks)


def compile_exec(process: Process, cgroups: tuple[Cgroup, ...], namespaces: int, id: str, *, passes_root: bool = False,
                 limits_pids: bool = False, has_apparmor: bool = False, has_selinux: bool = False, keeps_keyring: bool = False,
                 preserve_fds: int = 0, filter: Filter | None = None, memory_policy: MemoryPolicy | None = None,
                 personality: Personality | None = None, resctrl: tuple[str, ...] = (), is_rootless: bool = False,
                 denies_setgroups: bool = False, first_ids: tuple[int, int] = (0, 0), keeps_groups: bool = False) -> Plan:
    """The plan of a further process in a container with these namespaces (CLONE_NEW... bits).

    The first descriptor that is passed to it is a pidfd of the container's init. passes_root: the second is the container's
    root, where that is not the root of its mount namespace. limits_pids: the container has a limit of processes, so that what set
    the process up must not count any more when it runs. filter, memory_policy, personality, resctrl (groups in the order of joining),
    denies_setgroups, first_ids (uid and gid; of the user namespace) and keeps_groups: the container's. is_rootless: as in Host.
    """
    draft = Draft(overlaps=True, is_rootless=is_rootless)
    draft.await_sources()
    target = draft.host_slot()
    draft.host.append(op.PassDescriptor("", target, 0))
    root = draft.host_slot() if passes_root else None
    if root is not None:
        draft.host.append(op.PassDescriptor("", root, 1))
    _join_cgroups_for_exec(draft, cgroups, process)
    if resctrl:
        from pyruntime.plan.intel_rdt import join_groups

        join_groups(draft, resctrl)
    limit_process(draft, process, "$", bool(namespaces & flags.CLONE_NEWUSER))
    profile, label = apparmor_profile(process, "$", has_apparmor), selinux_label(process, "$", has_selinux)
    proc = draft.init_slot() if profile is not None or label is not None else None
    if proc is not None:
        draft.init.append(op.OpenProc("$.apparmorProfile" if label is None else "$.selinuxLabel", proc))
    if namespaces:
        draft.init.append(op.JoinProcessNamespaces("", target, namespaces, int(keeps_groups)))
    if root is not None:
        draft.init.append(op.UseRoot("", root))
    if namespaces & flags.CLONE_NEWUSER:
        draft.init.append(op.BecomeNamespaceRoot("", *first_ids, int(keeps_groups)))
    if not keeps_keyring:
        join_keyring(draft, id, "$", label, proc)
    draft.init += console(process, "$", binds_console=False)
    _set_surroundings(draft, memory_policy, personality)
    set_apparmor_profile(draft, "$", profile, proc)
    set_selinux_label(draft, "$", label, proc)
    keeps, revokes = capabilities_for(process, filter)
    setgroups = flags.SETGROUPS_MAY_BE_DENIED if is_rootless or namespaces & flags.CLONE_NEWUSER else flags.SETGROUPS_ALLOWED
    if keeps_groups:
        setgroups = flags.SETGROUPS_NOT_WANTED
    elif denies_setgroups:
        setgroups = flags.SETGROUPS_DENIED
    take_identity(draft, process, "$", make_cwd=False, setgroups=setgroups, keeps=keeps)
    # nothing that holds more than the process is to have comes where the container's processes can trace it
    early = filter is not None and bool(revokes) and bool(namespaces & flags.CLONE_NEWPID)
    if filter is not None and early:
        if filter.notifies_of_sendmsg:
            raise UnsupportedFieldError(None, "$.noNewPrivileges", "has to be true in a container whose filter notifies of sendmsg, by which "
                                        "the listener is passed on")
        draft.init.append(install(filter, revokes, flags.FILTER_BEFORE_CLONE))
    if namespaces & flags.CLONE_NEWPID:
        # joined above, while that was still allowed; entered by the last clone only
        draft.init.append(op.EnterPidNamespace("", 1, int(limits_pids)))
    draft.init.append(op.StartSession("", int(process.terminal)))
    _schedule(draft, process, "$")
    execute(draft, process, "$", [install(filter, revokes, flags.FILTER_BEFORE_PROGRAM)] if filter is not None and not early else [])
    return draft.finish(preserve_fds)


def _with_variables(spec: Spec, variables: tuple[str, ...]) -> Spec:
    assert spec.process is not None
    return msgspec.structs.replace(spec, process=msgspec.structs.replace(spec.process, env=(*spec.process.env, *variables)))


def _with_notify_socket(spec: Spec, place: Place) -> Spec:
    """Where runc has it, for what is read of a container. Its directory: a socket is made there when the container starts."""
    if spec.process is None:
        return spec
    mount = Mount(destination=f"/run/{NOTIFY_DIRECTORY}", source=f"{place.state_directory}/{NOTIFY_DIRECTORY}",
                  options=("bind", "nosuid", "noexec", "nodev", "ro"))
    return _with_variables(msgspec.structs.replace(spec, mounts=(*spec.mounts, mount)), (f"NOTIFY_SOCKET={mount.destination}/{NOTIFY_SOCKET}",))


def _refuse_unsupported(spec: Spec, host: Host) -> None:
    linux = spec.linux
    if linux.mount_label and not host.has_selinux:
        raise UnsupportedFieldError(None, "$.linux.mountLabel", f"is {linux.mount_label!r}, but SELinux is not enabled on this host")


def _open_namespaces(draft: Draft, spec: Spec) -> tuple[frozenset[str], dict[str, Slot]]:
    """Names of the new ones, and slots of the joined ones."""
    new, joined = set(), {}
    changed = _changed_namespaces(spec)
    for i, namespace in enumerate(spec.linux.namespaces):
        name = str(namespace.type)
        if namespace.path:
            joined[name] = draft.host_slot()
            draft.host.append(op.OpenNamespace(f"$.linux.namespaces[{i}].path", namespace.path.encode(), joined[name],
                                               flags.NAMESPACES[name], int(name in changed)))
        else:
            new.add(name)
    return frozenset(new), joined


def _changed_namespaces(spec: Spec) -> set[str]:
    """Names of those in which something is set: what is joined there must not be the host's."""
    changed = {str(namespace) for key in spec.linux.sysctl if (namespace := sysctl_namespace(key)) is not None}
    if spec.hostname or spec.domainname:
        changed.add("uts")
    if spec.linux.net_devices:
        changed.add("network")
    return changed | {"mount"}


def _make_namespaces(draft: Draft, new: frozenset[str]) -> None:
    """By the init, while the host prepares the rest: a network namespace takes as long as all cgroups."""
    draft.clone_flags = sum(flags.NAMESPACES[name] for name in new & {"pid"})
    types = sum(flags.NAMESPACES[name] for name in new & {"mount", "network", "ipc", "uts"})
    draft.init.append(op.UnshareNamespaces("$.linux.namespaces", types))
    if "network" in new:
        draft.init.append(op.RaiseLoopback(""))
    draft.await_sources()
    draft.open_trees_here()


def _namespace_paths(linux: Linux) -> dict[str, str]:
    return {str(namespace.type): f"$.linux.namespaces[{i}]" for i, namespace in enumerate(linux.namespaces)}


def _enter_namespaces(draft: Draft, linux: Linux, new: frozenset[str], joined: dict[str, Slot], caller: Unprivileged | None,
                      keeps_groups: int) -> None:
    paths = _namespace_paths(linux)
    clocks = draft.init_slot() if "time" in new else None
    if clocks is not None and linux.time_offsets:
        draft.init.append(op.OpenTimeOffsets("$.linux.timeOffsets", clocks))
    if "user" in new:
        write_id_maps(draft, linux, caller)
        draft.child.append(op.ReleaseChild(""))
        draft.init.append(op.AwaitRelease(UIDS))
        # with the caller's rights: the directories above may be closed to the namespace's root
        draft.open_trees_here()
    # root may join whoever owns them, as long as it is root of the host; a user without privileges only what its user namespace owns
    for name in sorted(joined, key=lambda name: (name == "user") != draft.is_rootless):
        if name not in ("pid", "mount"):  # with the change of root
            draft.init.append(op.JoinNamespace(f"{paths[name]}.path", joined[name], flags.NAMESPACES[name], keeps_groups))
    if "user" in new:
        draft.init.append(op.BecomeNamespaceRoot(UIDS, *first_ids_of(linux), keeps_groups))
    elif "user" in joined:
        # mappings that are given besides count for nothing: the namespace has its own (plan/warnings.py)
        draft.init.append(op.BecomeNamespaceRoot(f"{paths['user']}.path", 0, 0, keeps_groups))
    if clocks is not None:
        offsets = b"".join(b"%s %d %d\n" % (str(clock).encode(), offset.secs, offset.nanosecs) for clock, offset in linux.time_offsets.items())
        draft.init.append(op.UnshareTimeNamespace("$.linux.timeOffsets", offsets, clocks))
    # the cgroup namespace's root is where the process is by now; a joined user namespace has to own what is made; message queues belong to
    # who makes the ipc namespace, which has to be somebody in the user namespace
    late = new - {"time"} if "user" in joined else new & ({"cgroup", "ipc"} if "user" in new else {"cgroup"})
    types = sum(flags.NAMESPACES[name] for name in late)
    if types:
        draft.init.append(op.UnshareNamespaces("$.linux.namespaces", types))
    if "user" in joined:
        draft.open_trees_here()
    if types & flags.CLONE_NEWPID:
        draft.init.append(op.EnterPidNamespace("$.linux.namespaces", 0))


def _join_cgroups_for_exec(draft: Draft, cgroups: tuple[Cgroup, ...], process: Process) -> None:
    affinity = process.exec_cpu_affinity
    if affinity is None or affinity.initial is affinity.final is None:
        join_cgroups(draft, cgroups)
        draft.init.append(op.ResetAffinity(""))
        return
    from pyruntime.plan.scheduling import join_on  # few need it

    join_on(draft, cgroups, affinity, "$")


def _set_surroundings(draft: Draft, memory_policy: MemoryPolicy | None, personality: Personality | None) -> None:
    if memory_policy is not None or personality is not None:
        from pyruntime.plan.scheduling import set_surroundings  # few need it

        set_surroundings(draft, memory_policy, personality)


def _schedule(draft: Draft, process: Process, json_path: str) -> None:
    if process.scheduler is not None or process.io_priority is not None:
        from pyruntime.plan.scheduling import schedule  # few need it

        schedule(draft, process, json_path)


def join_groups_of(draft: Draft, rdt: IntelRdt, host: Host, id: str) -> None:
    """Of the resctrl file system."""
    from pyruntime.plan.intel_rdt import group_of, join_groups  # few need it

    join_groups(draft, group_of(rdt, host, id).paths)


def _await_devices(draft: Draft, linux: Linux) -> None:
    """Before sysctls, which may be those of the devices."""
    from pyruntime.plan.net_devices import moves_of  # few need it

    draft.net_devices = moves_of(linux)
    draft.init += [op.AnnounceNetwork("$.linux.netDevices"), op.AwaitRelease("$.linux.netDevices")]


def _write_to_proc(draft: Draft, linux: Linux, *, needs_proc: bool) -> Slot | None:
    """The procfs that it is, if there is anything to write, now or later."""
    if not linux.sysctl and not needs_proc:
        return None
    proc = draft.init_slot()
    draft.init.append(op.OpenProc("", proc))
    for name, value in linux.sysctl.items():
        draft.init.append(op.WriteProc(f'$.linux.sysctl["{name}"]', f"sys/{sysctl_path(name)}".encode(), value.encode(), proc))
    return proc


def _change_root(draft: Draft, filesystem: FilesystemCompiler, joined: dict[str, Slot], no_pivot: bool,
                 place: Place, *, enters_pid_first: bool) -> None:
    paths = _namespace_paths(filesystem.linux)
    enter_pid = [op.JoinNamespace(f"{paths['pid']}.path", joined["pid"], flags.CLONE_NEWPID),
                 op.EnterPidNamespace(f"{paths['pid']}.path", 0)] if "pid" in joined else []
    root, rootfs_path, init = filesystem.compile(), place.rootfs_path, draft.init
    if enters_pid_first:
        init += enter_pid
    init += filesystem.before
    if filesystem.linux.makes_mount_namespace():
        init.append(op.IsolatePropagation(""))
        change: op.Operation = (op.SwitchRoot if no_pivot else op.PivotRoot)("$.root.path", root, rootfs_path)
    else:
        # others see it: the root has its own place there, with all mounts below, and who deletes the container detaches it
        if "mount" in joined:
            init.append(op.JoinNamespace(f"{paths['mount']}.path", joined["mount"], flags.CLONE_NEWNS))
        init.append(op.MountRoot("$.root.path", os.fsencode(rootfs_path), root))
        change = op.UseRoot("$.root.path", root, rootfs_path)
    mounts = filesystem.mounts if enters_pid_first else [*enter_pid, *filesystem.mounts]
    if has_create_hooks(filesystem.spec.hooks):
        _place_root(draft, filesystem, root, rootfs_path)
        init += mounts
        init += [op.AnnounceHooks("$.hooks"), op.AwaitRelease("$.hooks")]
        init += run_in_container(filesystem.spec, place.id, place.bundle_path, "createContainer", "creating", CREATE_UMASK)
        init.append(change)
    else:
        init += [change, *mounts]
    init += filesystem.after


def _place_root(draft: Draft, filesystem: FilesystemCompiler, root: Slot, rootfs_path: str) -> None:
    """Mount the root where hooks look for it, and go into it."""
    at = filesystem.root_place
    if at is None:
        draft.init.append(op.EnterRoot("$.root.path", root, rootfs_path))
        return
    if not any(isinstance(operation, op.OpenRootPlace) for operation in draft.open_early):
        draft.init.append(op.OpenRootPlace("$.root.path", os.fsencode(rootfs_path), at))
    draft.init.append(op.PlaceRoot("$.root.path", at, root, rootfs_path))


def _finish_environment(draft: Draft, spec: Spec, new: frozenset[str]) -> None:
    if spec.hostname:
        draft.init.append(op.SetHostname("$.hostname", spec.hostname.encode()))
    if spec.domainname:
        draft.init.append(op.SetDomainname("$.domainname", spec.domainname.encode()))
    if "network" in new and not draft.overlaps:
        draft.init.append(op.RaiseLoopback(""))
