"""Named pipes of Windows: "Named Pipes" in Microsoft's documentation of the Windows API.

A pipe has a name that everybody can see, and that anybody may take while nobody has it. So each is made with a list of rights for this
user and the system alone, for local clients alone, and as the first of its name; and a client talks to a pipe only when its owner is
its own user. The pipes carry messages, read as bytes: a message of no bytes says that nothing more will be said, as docker's client and
its library (go-winio) have it.
"""

from __future__ import annotations

import _winapi
import contextlib
import ctypes
import hashlib
import os
import socket
import sys
import threading
import time
from ctypes import wintypes
from pathlib import Path

from cove.local.joined import SIZE, Joined, join

assert sys.platform == "win32"

_OVERLAPPED, _FIRST = 0x4000_0000, 0x0008_0000
_DUPLEX = 3
_MESSAGES, _REJECT_REMOTE = 4, 8
"""PIPE_TYPE_MESSAGE, read by bytes; PIPE_REJECT_REMOTE_CLIENTS."""
_UNLIMITED = 255
_IDENTIFY_ONLY = 0x0010_0000 | 0x0001_0000
"""SECURITY_SQOS_PRESENT, SECURITY_IDENTIFICATION: whoever serves the pipe may not act as its client."""
_READ_CONTROL = 0x0002_0000
_ERROR_PIPE_BUSY, _ERROR_NO_DATA, _ERROR_ABORTED = 231, 232, 995
_CANCELLED_S = 10.0
"""Within which a thread whose waiting was cancelled has heard of that."""
_KERNEL_OBJECT, _OWNER = 6, 1
SERVICES = frozenset({"S-1-5-18", "S-1-5-32-544"})
"""The system itself and administrators: whose a service's pipe is, such as that of a Docker engine."""
VIRTUAL_MACHINES = "S-1-5-83"
"""What the security identifiers of Hyper-V's machines begin with, as whom their processes run."""
_TOKEN_QUERY, _TOKEN_USER = 8, 1
_RIGHTS = "O:{sid}D:P(A;;GA;;;{sid})(A;;GA;;;SY)"
"""The owner; and protected from inheritance: all rights for the owner and for the system, none for others."""


def name(path: Path) -> str:
    """The pipe of a socket's path: its own for each user and each COVE_HOME."""
    place = hashlib.sha256(os.path.normcase(path.parent.absolute()).encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return rf"\\.\pipe\cove-{place}-{path.parent.name}-{path.stem}"


def listen(path: Path) -> PipeListener:
    """Raises `OSError`."""
    listener = PipeListener(name(path))
    try:
        path.write_text(listener.name, "utf-8")
    except BaseException:
        listener.close()
        raise
    return listener


def connect(path: Path, timeout_s: float) -> Joined:
    """Raises `OSError`; `FileNotFoundError` and `ConnectionRefusedError` when nobody listens."""
    if not path.exists():
        raise FileNotFoundError(f"nobody listens at {path}")
    try:
        return open_pipe(name(path), timeout_s)
    except FileNotFoundError:
        raise ConnectionRefusedError(f"nobody listens at {path} any more") from None


def open_pipe(pipe: str, timeout_s: float, *, or_of: frozenset[str] = frozenset()) -> Joined:
    """A connection as `open_handle` has it. Raises `OSError`."""
    return join(_Pipe(open_handle(pipe, timeout_s, or_of=or_of)))


def open_handle(pipe: str, timeout_s: float, *, or_of: frozenset[str] = frozenset()) -> int:
    """A handle for overlapped reading and writing, of a pipe of this user's, or of one of these (security identifiers, or what they begin
    with). Raises `OSError`."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            handle = _winapi.CreateFile(
                pipe, _winapi.GENERIC_READ | _winapi.GENERIC_WRITE | _READ_CONTROL, 0, 0, _winapi.OPEN_EXISTING,
                _OVERLAPPED | _IDENTIFY_ONLY, 0,
            )  # fmt: skip
            break
        except OSError as error:
            left = deadline - time.monotonic()
            if error.winerror != _ERROR_PIPE_BUSY or left <= 0:
                raise
            with contextlib.suppress(OSError):  # it is over in the moment between two of its instances
                _winapi.WaitNamedPipe(pipe, max(1, int(left * 1000)))
    try:
        owner = _owner(handle)
        if owner != _user() and not any(f"{owner}-".startswith(f"{one}-") for one in or_of):
            raise PermissionError(f"{pipe} is another user's")
    except BaseException:
        _winapi.CloseHandle(handle)
        raise
    return handle


class PipeListener:
    """For one thread that accepts, and any that closes it. Raises `OSError`, when another process has the name."""

    def __init__(self, pipe: str) -> None:
        self.name = pipe
        self._closed = False
        self._lock = threading.Lock()
        self._settled = threading.Condition(self._lock)
        self._waiting: _winapi.Overlapped | None = None
        """A client is waited for; whoever waits has `_next`, and closes it when the listener is closed meanwhile."""
        self._next = self._make(first=True)

    def accept(self) -> tuple[socket.socket, str]:
        """Raises `OSError` when it is closed."""
        while True:
            if (handle := self._connected()) is None:
                continue
            try:
                return join(_Pipe(handle)), self.name
            except (RuntimeError, OSError):  # no more threads, or sockets
                continue

    def _connected(self) -> int | None:
        """The pipe of the next client; None when who came has gone already. Raises `OSError`."""
        came = True
        with self._lock:
            if self._closed:
                raise OSError("it is closed")
            handle = self._next
            try:
                self._waiting = _winapi.ConnectNamedPipe(handle, overlapped=True)
            except OSError as error:
                if error.winerror != _ERROR_NO_DATA:
                    raise
                came = False
        failure: OSError | None = None
        if self._waiting is not None:
            try:
                _completed(self._waiting)
            except OSError as error:
                failure, came = error, False
        with self._lock:
            self._waiting = None
            self._settled.notify_all()
            if self._closed:
                _winapi.CloseHandle(handle)
                raise OSError("it is closed")
            if failure is not None and getattr(failure, "winerror", 0) != _ERROR_NO_DATA:
                raise failure
            try:
                self._next = self._make(first=False)
            except OSError:  # the name stays ours, and this one waits for the next client
                _disconnect(handle)
                raise
        if came:
            return handle
        _winapi.CloseHandle(handle)
        return None

    def shutdown(self, how: int, /) -> None:
        self.close()

    def close(self) -> None:
        """The name is free when this returns."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._waiting is None:
                _winapi.CloseHandle(self._next)
                return
            with contextlib.suppress(OSError):
                self._waiting.cancel()
            self._settled.wait_for(lambda: self._waiting is None, _CANCELLED_S)

    def fileno(self) -> int:
        """Below 0 when it is closed."""
        return -1 if self._closed else self._next

    def _make(self, *, first: bool) -> int:
        with _rights() as rights:
            return _winapi.CreateNamedPipe(
                self.name, _DUPLEX | _OVERLAPPED | (_FIRST if first else 0), _MESSAGES | _REJECT_REMOTE, _UNLIMITED, SIZE,
                SIZE, 0, rights,
            )  # fmt: skip


def _completed(begun: _winapi.Overlapped) -> None:
    """Wait for the end of what was begun. Raises `OSError`, also when it was cancelled."""
    _, error = begun.GetOverlappedResult(True)
    if error == _ERROR_ABORTED:
        raise BrokenPipeError("it is closed")


class _Pipe:
    """One end of one connection (`cove.local.joined.Far`)."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._lock = threading.Lock()
        self._closed = False
        self._under_way: set[_winapi.Overlapped] = set()

    def read(self) -> bytes:
        done = self._begin(lambda: _winapi.ReadFile(self._handle, SIZE, overlapped=True)[0])
        self._finish(done)
        return bytes(done.getbuffer() or b"")

    def write(self, data: bytes) -> None:
        self._finish(self._begin(lambda: _winapi.WriteFile(self._handle, data, overlapped=True)[0]))

    def end(self) -> None:
        self.write(b"")

    def _begin(self, start) -> _winapi.Overlapped:  # type: ignore[no-untyped-def]
        with self._lock:
            if self._closed:
                raise BrokenPipeError("it is closed")
            begun: _winapi.Overlapped = start()
            self._under_way.add(begun)
            return begun

    def _finish(self, begun: _winapi.Overlapped) -> None:
        try:
            _completed(begun)
        finally:
            with self._lock:
                self._under_way.discard(begun)

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for one in self._under_way:
                with contextlib.suppress(OSError):
                    one.cancel()
            _winapi.CloseHandle(self._handle)


class _Attributes(ctypes.Structure):
    """SECURITY_ATTRIBUTES"""

    _fields_ = [("length", wintypes.DWORD), ("descriptor", wintypes.LPVOID), ("inherit", wintypes.BOOL)]


@contextlib.contextmanager
def _rights():  # type: ignore[no-untyped-def]
    """The address of a SECURITY_ATTRIBUTES that lets this user alone in."""
    advapi = ctypes.WinDLL("advapi32", use_last_error=True)
    descriptor = wintypes.LPVOID()
    words = _RIGHTS.format(sid=_user())
    if not advapi.ConvertStringSecurityDescriptorToSecurityDescriptorW(words, 1, ctypes.byref(descriptor), None):
        raise ctypes.WinError(ctypes.get_last_error())
    attributes = _Attributes(ctypes.sizeof(_Attributes), descriptor, False)
    try:
        yield ctypes.addressof(attributes)
    finally:
        _local_free(descriptor)


def _user() -> str:
    """This user's security identifier, "S-1-5-21-…"."""
    advapi = ctypes.WinDLL("advapi32", use_last_error=True)
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    kernel.GetCurrentProcess.restype = wintypes.HANDLE
    advapi.OpenProcessToken.argtypes = (wintypes.HANDLE, wintypes.DWORD, ctypes.POINTER(wintypes.HANDLE))
    token = wintypes.HANDLE()
    if not advapi.OpenProcessToken(kernel.GetCurrentProcess(), _TOKEN_QUERY, ctypes.byref(token)):
        raise ctypes.WinError(ctypes.get_last_error())
    try:
        buffer = ctypes.create_string_buffer(256)  # a TOKEN_USER: the identifier's address, attributes, and it itself
        size = wintypes.DWORD()
        if not advapi.GetTokenInformation(token, _TOKEN_USER, buffer, len(buffer), ctypes.byref(size)):
            raise ctypes.WinError(ctypes.get_last_error())
        return _text(ctypes.cast(buffer, ctypes.POINTER(ctypes.c_void_p))[0])
    finally:
        assert token.value is not None
        _winapi.CloseHandle(token.value)


def _owner(handle: int) -> str:
    """The security identifier of who owns a pipe. Raises `OSError`."""
    advapi = ctypes.WinDLL("advapi32", use_last_error=True)
    advapi.GetSecurityInfo.argtypes = (
        wintypes.HANDLE, ctypes.c_int, wintypes.DWORD, ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p, ctypes.c_void_p,
        ctypes.c_void_p, ctypes.POINTER(wintypes.LPVOID),
    )  # fmt: skip
    owner, descriptor = ctypes.c_void_p(), wintypes.LPVOID()
    failed = advapi.GetSecurityInfo(
        handle, _KERNEL_OBJECT, _OWNER, ctypes.byref(owner), None, None, None, ctypes.byref(descriptor)
    )
    if failed:
        raise ctypes.WinError(failed)
    try:
        return _text(owner.value)
    finally:
        _local_free(descriptor)


def _text(identifier: int | None) -> str:
    advapi = ctypes.WinDLL("advapi32", use_last_error=True)
    advapi.ConvertSidToStringSidW.argtypes = (ctypes.c_void_p, ctypes.POINTER(wintypes.LPWSTR))
    text = wintypes.LPWSTR()
    if not advapi.ConvertSidToStringSidW(identifier, ctypes.byref(text)):
        raise ctypes.WinError(ctypes.get_last_error())
    try:
        return text.value or ""
    finally:
        _local_free(ctypes.cast(text, wintypes.LPVOID))


def _disconnect(handle: int) -> None:
    """Whoever is at a pipe's other end is no more."""
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    kernel.DisconnectNamedPipe.argtypes = (wintypes.HANDLE,)
    kernel.DisconnectNamedPipe(handle)


def _local_free(memory: wintypes.LPVOID) -> None:
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    kernel.LocalFree.argtypes = (wintypes.LPVOID,)
    kernel.LocalFree(memory)
