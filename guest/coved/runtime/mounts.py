"""OCI mounts. What needs the host's view (overlay, sources of bind mounts) is opened outside as a detached mount;
the container's init then attaches everything inside its own mount namespace. OCI config.md "Mounts", fsopen(2),
open_tree(2).
"""

import errno
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from coved.runtime import paths, syscalls

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from coved.runtime.spec import Mount

# option: (attributes set, attributes cleared)
_ATTRIBUTES = {
    "ro": (syscalls.MOUNT_ATTR_RDONLY, 0),
    "rw": (0, syscalls.MOUNT_ATTR_RDONLY),
    "nosuid": (syscalls.MOUNT_ATTR_NOSUID, 0),
    "suid": (0, syscalls.MOUNT_ATTR_NOSUID),
    "nodev": (syscalls.MOUNT_ATTR_NODEV, 0),
    "dev": (0, syscalls.MOUNT_ATTR_NODEV),
    "noexec": (syscalls.MOUNT_ATTR_NOEXEC, 0),
    "exec": (0, syscalls.MOUNT_ATTR_NOEXEC),
    "noatime": (syscalls.MOUNT_ATTR_NOATIME, syscalls.MOUNT_ATTR__ATIME),
    "relatime": (syscalls.MOUNT_ATTR_RELATIME, syscalls.MOUNT_ATTR__ATIME),
    "strictatime": (syscalls.MOUNT_ATTR_STRICTATIME, syscalls.MOUNT_ATTR__ATIME),
    "nodiratime": (syscalls.MOUNT_ATTR_NODIRATIME, 0),
    "diratime": (0, syscalls.MOUNT_ATTR_NODIRATIME),
    "nosymfollow": (syscalls.MOUNT_ATTR_NOSYMFOLLOW, 0),
    "symfollow": (0, syscalls.MOUNT_ATTR_NOSYMFOLLOW),
    "atime": (0, syscalls.MOUNT_ATTR__ATIME),
    "norelatime": (0, 0),
    "nostrictatime": (0, 0),
}
_PROPAGATION = {
    "private": syscalls.MS_PRIVATE,
    "slave": syscalls.MS_SLAVE,
    "shared": syscalls.MS_SHARED,
    "unbindable": syscalls.MS_UNBINDABLE,
}
_IGNORED = {"defaults", "async", "noauto", "nofail", "_netdev", "tmpcopyup"}


class MountError(Exception):
    """A mount failed; the text is what the user is told. ``errno`` is the kernel's."""

    def __init__(self, message: str, number: int = 0) -> None:
        super().__init__(message)
        self.errno = number


class Options(NamedTuple):
    """Mount options by what they do: attributes of the mount, of its whole tree, propagation, and data of the type."""

    set_: int
    clear: int
    set_recursive: int
    clear_recursive: int
    propagation: int
    propagation_recursive: bool
    bind: bool
    recursive: bool
    data: list[tuple[str, str | None]]


def parse_options(options: list[str]) -> Options:
    """Sort fstab-style options; what is no option of mount(8) belongs to the file system type."""
    set_ = clear = set_recursive = clear_recursive = propagation = 0
    propagation_recursive = bind = recursive = False
    data: list[tuple[str, str | None]] = []
    for option in options:
        base = option[1:] if option.startswith("r") else ""
        if option in _ATTRIBUTES:
            on, off = _ATTRIBUTES[option]
            set_, clear = set_ & ~off | on, clear & ~on | off
        elif base in _ATTRIBUTES:
            on, off = _ATTRIBUTES[base]
            set_recursive, clear_recursive = set_recursive & ~off | on, clear_recursive & ~on | off
        elif option in _PROPAGATION:
            propagation, propagation_recursive = _PROPAGATION[option], False
        elif base in _PROPAGATION:
            propagation, propagation_recursive = _PROPAGATION[base], True
        elif option in ("bind", "rbind"):
            bind, recursive = True, option == "rbind"
        elif option not in _IGNORED:
            key, equals, value = option.partition("=")
            data.append((key, value if equals else None))
    return Options(
        *(set_, clear, set_recursive, clear_recursive, propagation, propagation_recursive, bind, recursive), data
    )


# What LXCFS has for a container.
_OVER_PROC = frozenset(
    "proc/" + name
    for name in "cpuinfo diskstats meminfo stat swaps uptime loadavg slabinfo net/dev sys/kernel/ns_last_pid".split()
)


class Prepared(NamedTuple):
    """A mount ready to be attached: detached already (``fd``), or still to be made inside the container."""

    mount: "Mount"
    options: Options
    fd: int
    is_directory: bool


def split_lower(value: str) -> list[str]:
    """Overlay's ``lowerdir=``: directories, top first, separated by colons that a backslash may protect."""
    parts, current, index = [], "", 0
    while index < len(value):
        if value[index] == "\\" and index + 1 < len(value):
            current += value[index + 1]
            index += 2
            continue
        if value[index] == ":":
            parts.append(current)
            current = ""
        else:
            current += value[index]
        index += 1
    return [*parts, current]


def join_lower(directories: "Iterable[Path]") -> str:
    """What ``split_lower`` takes apart."""
    return ":".join(str(path).replace("\\", "\\\\").replace(":", "\\:") for path in directories)


def open_overlay(options: Options) -> int:
    """A detached overlay mount. Lower directories are given one at a time, so that their number has no limit but the
    kernel's (500); kernels before 6.8 take them as one string of at most 255 bytes here, or a page through mount(2)."""
    context = syscalls.fsopen("overlay")
    try:
        syscalls.fsconfig(context, syscalls.FSCONFIG_SET_STRING, "source", "overlay")
        for key, value in options.data:
            if key != "lowerdir" or value is None:
                _configure(context, key, value)
                continue
            lower = split_lower(value)
            try:
                for directory in lower:
                    syscalls.fsconfig(context, syscalls.FSCONFIG_SET_STRING, "lowerdir+", directory)
            except OSError as error:
                if error.errno != errno.EINVAL or "lowerdir+" not in str(error):
                    raise OSError(error.errno, f"{error.strerror} (layer {directory})") from None
                syscalls.fsconfig(context, syscalls.FSCONFIG_SET_STRING, "lowerdir", value)
        syscalls.fsconfig(context, syscalls.FSCONFIG_CMD_CREATE)
        return syscalls.fsmount(context, options.set_)
    finally:
        os.close(context)


def _configure(context: int, key: str, value: str | None) -> None:
    if value is None:
        syscalls.fsconfig(context, syscalls.FSCONFIG_SET_FLAG, key)
    else:
        syscalls.fsconfig(context, syscalls.FSCONFIG_SET_STRING, key, value)


def open_filesystem(kind: str, source: str | None, options: Options) -> int:
    """A detached mount of any other file system type, made with the caller's credentials and namespaces."""
    context = syscalls.fsopen(kind)
    try:
        if source:
            syscalls.fsconfig(context, syscalls.FSCONFIG_SET_STRING, "source", source)
        for key, value in options.data:
            _configure(context, key, value)
        syscalls.fsconfig(context, syscalls.FSCONFIG_CMD_CREATE)
        return syscalls.fsmount(context, options.set_)
    finally:
        os.close(context)


def open_bind(source: str, options: Options, namespace: str = "", below: str = "") -> int:
    """A detached clone of the tree at ``source``, with its attributes and propagation set before anyone can see it.

    ``namespace``: path of another mount namespace that has ``source``. ``below``: what of ``source`` it is, by a path that no
    link leads out of (openat2(2), RESOLVE_BENEATH).
    """
    flags = syscalls.OPEN_TREE_CLONE | (syscalls.AT_RECURSIVE if options.recursive else 0)
    fd = _open_below(source, below, flags) if below else _open_tree(source, flags, namespace)
    try:
        if options.set_recursive or options.clear_recursive:
            syscalls.mount_setattr(fd, set_=options.set_recursive, clear=options.clear_recursive, recursive=True)
        if options.set_ or options.clear:
            syscalls.mount_setattr(fd, set_=options.set_, clear=options.clear)
        syscalls.mount_setattr(
            fd,
            propagation=options.propagation or syscalls.MS_PRIVATE,
            recursive=options.propagation_recursive or not options.propagation,
        )
    except BaseException:
        os.close(fd)
        raise
    return fd


def _open_below(source: str, below: str, flags: int) -> int:
    base = os.open(source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        part = syscalls.openat2(base, below, os.O_PATH, syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_MAGICLINKS)
    finally:
        os.close(base)
    try:
        return syscalls.open_tree(part, "", flags | syscalls.AT_EMPTY_PATH)
    finally:
        os.close(part)


def _open_tree(source: str, flags: int, namespace: str) -> int:
    """open_tree(2) clones only mounts of the caller's own mount namespace, so it is visited. Root and working directory
    are those of the visited namespace meanwhile: nothing of the host is reached by a link in it."""
    if not namespace:
        return syscalls.open_tree(syscalls.AT_FDCWD, source, flags)
    own = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        other = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            syscalls.setns(other, syscalls.CLONE_NEWNS)
        finally:
            os.close(other)
        try:
            return syscalls.open_tree(syscalls.AT_FDCWD, source, flags)
        finally:
            syscalls.setns(own, syscalls.CLONE_NEWNS)
    finally:
        os.close(own)


def _is_bind(mount: "Mount", options: Options) -> bool:
    return options.bind or mount.get("type") == "bind"


def prepare(mount: "Mount") -> Prepared:
    """In the host's view: open what must be opened there. Raises MountError."""
    options = parse_options(mount.get("options", []))
    source = mount.get("source")
    try:
        if _is_bind(mount, options):
            if not source:
                raise MountError(f'bind mount at "{mount["destination"]}" has no source')
            fd = open_bind(source, options, mount.get("namespace", ""), mount.get("below", ""))
            if mount.get("uidMappings"):
                from coved.runtime import idmap  # only for user namespaces

                try:
                    idmap.map_bind(mount, fd)
                except BaseException:
                    os.close(fd)
                    raise
            return Prepared(mount, options, fd, stat.S_ISDIR(os.fstat(fd).st_mode))
        if mount.get("type") == "overlay" and mount.get("uidMappings"):
            from coved.runtime import idmap

            return Prepared(mount, options, idmap.open_overlay(mount, options), True)
        if mount.get("type") == "overlay":
            return Prepared(mount, options, open_overlay(options), True)
    except OSError as error:
        raise _error(mount, error) from None
    return Prepared(mount, options, -1, True)


def attach(root_fd: int, prepared: Prepared) -> None:
    """Inside the container's mount namespace, before its root becomes the root. Raises MountError."""
    mount, options, fd, is_directory = prepared
    kind = mount.get("type", "")
    try:
        if fd < 0:
            if kind == "tmpfs" and not any(key == "mode" for key, _ in options.data):
                options.data.extend(_mode_of(root_fd, mount["destination"]))
            fd = open_filesystem("cgroup2" if kind == "cgroup" else kind, mount.get("source"), options)
        if "within" in mount:
            from coved.runtime import parts  # builds only

            whole, fd = fd, parts.take(fd, mount)
            os.close(whole)
            is_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
        # proc and sysfs are what the rest of the set-up trusts: they go where the path says, not where a link leads.
        follow = kind not in ("proc", "sysfs")
        target = paths.ensure_target(root_fd, mount["destination"], directory=is_directory, follow=follow)
        try:
            if is_directory != stat.S_ISDIR(os.fstat(target).st_mode):
                raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            if kind != "proc":
                _spare_proc(root_fd, target, mount, fd)
            syscalls.move_mount(fd, target)
        finally:
            os.close(target)
        if options.propagation and prepared.fd < 0:
            syscalls.mount_setattr(fd, propagation=options.propagation, recursive=options.propagation_recursive)
    except OSError as error:
        raise _error(mount, error) from None
    finally:
        if fd >= 0:
            os.close(fd)


def _spare_proc(root_fd: int, target: int, mount: "Mount", fd: int) -> None:
    """What is set up later, by the runtime and by execs, trusts /proc: nothing else may be mounted there, with runc's exceptions
    (its ``checkProcMount``). A tmpfs has nothing in it that could pretend to be something. Raises OSError."""
    try:
        proc = paths.open_in_root(root_fd, "/proc")
    except OSError:
        return
    try:
        whole = os.path.samestat(os.fstat(proc), os.fstat(target))
    finally:
        os.close(proc)
    if whole and syscalls.file_system(fd) != syscalls.PROC_SUPER_MAGIC:
        raise OSError(errno.EPERM, f'"{mount["destination"]}" cannot be mounted because it is not of type proc')
    inside = not whole and syscalls.file_system(target) == syscalls.PROC_SUPER_MAGIC
    if inside and mount.get("type") != "tmpfs" and mount["destination"].strip("/") not in _OVER_PROC:
        raise OSError(errno.EPERM, f'"{mount["destination"]}" cannot be mounted because it is inside /proc')


def _mode_of(root_fd: int, path: str) -> list[tuple[str, str | None]]:
    """A tmpfs is as accessible as the directory that it covers."""
    try:
        target = paths.open_in_root(root_fd, path)
    except OSError:
        return []
    mode = os.fstat(target).st_mode
    os.close(target)
    return [("mode", f"{stat.S_IMODE(mode):o}")]


def _error(mount: "Mount", error: OSError) -> MountError:
    source = mount.get("source") or mount.get("type", "")
    return MountError(
        f'error mounting "{source}" to rootfs at "{mount["destination"]}": {syscalls.describe(error)}', error.errno or 0
    )
