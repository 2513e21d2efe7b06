"""The container's root, from inside its new mount namespace: mounts attached, devices, hidden paths, pivot_root."""

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from coved.runtime import mounts, paths, syscalls

if TYPE_CHECKING:
    from collections.abc import Callable

    from coved.runtime.spec import Device, Linux, Spec

_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
)
# OCI config-linux.md "Default Devices".
_DEFAULT_DEVICES: "tuple[Device, ...]" = tuple(
    {"type": "c", "path": f"/dev/{name}", "major": major, "minor": minor, "fileMode": 0o666, "uid": 0, "gid": 0}
    for name, major, minor in (
        *(("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9)),
        ("tty", 5, 0),
    )
)
_NODE_TYPES = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}
_ROOT_PROPAGATION = {
    "shared": syscalls.MS_SHARED,
    "slave": syscalls.MS_SLAVE,
    "private": syscalls.MS_PRIVATE,
    "unbindable": syscalls.MS_UNBINDABLE,
}


class PreparedRoot(NamedTuple):
    """``root``: the mount that becomes the root (an overlay or a clone of a directory); ``rest``: all others."""

    path: str
    root: int
    rest: list[mounts.Prepared]

    def close(self) -> None:
        for fd in (self.root, *(one.fd for one in self.rest)):
            if fd >= 0:
                os.close(fd)


def prepare(spec: "Spec") -> PreparedRoot:
    """In the host's view: open overlay and bind sources as detached mounts. Raises MountError, OSError."""
    root_path = spec["root"]["path"]
    os.makedirs(root_path, 0o755, exist_ok=True)
    root = -1
    rest: list[mounts.Prepared] = []
    try:
        for mount in spec.get("mounts", []):
            prepared = mounts.prepare(mount)
            if mount["destination"] == "/" and root < 0:
                root = prepared.fd
            else:
                rest.append(prepared)
        if root < 0:
            root = mounts.open_bind(root_path, mounts.parse_options(["rbind"]))
    except BaseException:
        PreparedRoot(root_path, root, rest).close()
        raise
    return PreparedRoot(root_path, root, rest)


def build(prepared: PreparedRoot, place: int, spec: "Spec", console_from: "Callable[[int], int] | None") -> None:
    """Everything up to and including pivot_root. Runs in the container's init. Raises MountError, OSError.

    ``place``: a descriptor of the folder at ``prepared.path``, in the new mount namespace; it is closed.
    ``console_from`` is called once devpts is mounted, with the root's descriptor; it returns the terminal to be put
    on /dev/console.
    """
    linux = spec.get("linux", {})
    # Mounts of the host that come later must not appear here, and nothing made here may appear there.
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_SLAVE)
    syscalls.move_mount(prepared.root, place)
    os.close(place)
    root_fd = prepared.root
    for one in prepared.rest:
        mounts.attach(root_fd, one)
    if not _has_whole_dev(spec):
        _make_devices(root_fd, linux, binds=_in_user_namespace(linux))
    if console_from is not None:
        _mount_console(root_fd, console_from(root_fd))
    for path in linux.get("readonlyPaths", []):
        _make_read_only(root_fd, path)
    _mask(root_fd, linux.get("maskedPaths", []))
    os.fchdir(root_fd)
    syscalls.pivot_root(".", ".")
    # The old root now lies on top of the new one (pivot_root(2)); it goes with all that was below it.
    syscalls.umount2(".", syscalls.MNT_DETACH)
    os.chdir("/")
    if spec["root"].get("readonly"):
        syscalls.mount_setattr(prepared.root, set_=syscalls.MOUNT_ATTR_RDONLY)
    propagation = linux.get("rootfsPropagation", "")
    if kind := _ROOT_PROPAGATION.get(propagation.removeprefix("r")):
        syscalls.mount_setattr(prepared.root, propagation=kind, recursive=propagation.startswith("r"))
    os.close(root_fd)


def _in_user_namespace(linux: "Linux") -> bool:
    return any(one["type"] == "user" for one in linux.get("namespaces", []))


def _has_whole_dev(spec: "Spec") -> bool:
    """A bind mount on /dev brings its own nodes, and making some would change the folder that it comes from."""
    return any(one["destination"].rstrip("/") == "/dev" and one.get("type") == "bind" for one in spec.get("mounts", []))


def _make_devices(root_fd: int, linux: "Linux", *, binds: bool) -> None:
    dev = paths.ensure_target(root_fd, "/dev", directory=True)
    try:
        old_umask = os.umask(0)
        wanted = {device["path"]: device for device in (*_DEFAULT_DEVICES, *linux.get("devices", []))}
        for device in wanted.values():
            _make_device(root_fd, device, bind=binds)
        os.umask(old_umask)
        for name, target in _LINKS:
            try:
                os.symlink(target, name, dir_fd=dev)
            except FileExistsError:
                continue
    finally:
        os.close(dev)


def _make_device(root_fd: int, device: "Device", *, bind: bool) -> None:
    folder, _, name = device["path"].rpartition("/")
    if not name or name in (".", ".."):
        raise OSError(22, "no path of a device", device["path"])
    if bind:  # mknod is not for user namespaces
        target = paths.ensure_target(root_fd, device["path"], directory=False)
        source = mounts.open_bind(device.get("source", device["path"]), mounts.parse_options(["bind"]))
        syscalls.move_mount(source, target)
        os.close(source)
        os.close(target)
        return
    parent = paths.ensure_target(root_fd, folder or "/", directory=True)
    try:
        mode = device.get("fileMode", 0o666) & 0o7777 | _NODE_TYPES[device["type"]]
        number = os.makedev(device.get("major", 0), device.get("minor", 0))
        try:
            os.mknod(name, mode, number, dir_fd=parent)
        except FileExistsError:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if stat.S_IFMT(found.st_mode) == stat.S_IFMT(mode) and found.st_rdev == number:
                return
            os.unlink(name, dir_fd=parent)
            os.mknod(name, mode, number, dir_fd=parent)
        uid, gid = device.get("uid", 0), device.get("gid", 0)
        if uid or gid:
            os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)
    finally:
        os.close(parent)


def _mount_console(root_fd: int, terminal_fd: int) -> None:
    source = syscalls.open_tree(terminal_fd, "", syscalls.OPEN_TREE_CLONE | syscalls.AT_EMPTY_PATH)
    target = paths.ensure_target(root_fd, "/dev/console", directory=False)
    syscalls.move_mount(source, target)
    os.close(source)
    os.close(target)


def _make_read_only(root_fd: int, path: str) -> None:
    try:
        target = paths.open_in_root(root_fd, path)
    except (FileNotFoundError, NotADirectoryError):
        return
    clone = syscalls.open_tree(target, "", syscalls.OPEN_TREE_CLONE | syscalls.AT_EMPTY_PATH | syscalls.AT_RECURSIVE)
    syscalls.mount_setattr(clone, set_=syscalls.MOUNT_ATTR_RDONLY, recursive=True)
    syscalls.move_mount(clone, target)
    os.close(clone)
    os.close(target)


def _mask(root_fd: int, masked: list[str]) -> None:
    """An empty read-only tmpfs over directories, /dev/null over anything else; what is not there needs no mask."""
    empty = -1
    for path in masked:
        try:
            target = paths.open_in_root(root_fd, path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if stat.S_ISDIR(os.fstat(target).st_mode):
            if empty < 0:
                options = mounts.parse_options(["ro", "nosuid", "nodev", "noexec", "size=0", "mode=755"])
                empty = mounts.open_filesystem("tmpfs", "tmpfs", options)
                syscalls.move_mount(empty, target)
            else:
                clone = syscalls.open_tree(empty, "", syscalls.OPEN_TREE_CLONE | syscalls.AT_EMPTY_PATH)
                syscalls.move_mount(clone, target)
                os.close(clone)
        else:
            # The container's own, which has just been made or checked: a mount of the host's would stay visible.
            null = paths.open_in_root(root_fd, "/dev/null")
            clone = syscalls.open_tree(null, "", syscalls.OPEN_TREE_CLONE | syscalls.AT_EMPTY_PATH)
            syscalls.move_mount(clone, target)
            os.close(clone)
            os.close(null)
        os.close(target)
    if empty >= 0:
        os.close(empty)
