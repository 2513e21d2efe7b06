"""Windows' end of a session, by a shutdown or a logout, waits for the machine (docs/decisions/0063).

Windows tells windows of it: WM_QUERYENDSESSION, and when nobody objects WM_ENDSESSION, after whose answer the process may be ended at any
moment ("Shutting Down", winuser.h). So there is a window that nobody sees, with a thread for its messages.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import sys
import threading
from collections.abc import Callable
from ctypes import wintypes

from cove.agent import shutdown

assert sys.platform == "win32"

log = logging.getLogger(__name__)

LIMIT_S = 300.0
"""How long Windows is left without an answer. It ends the process sooner: when the user says so, whom it asks after some seconds."""
WHY = "Containers are being stopped"
"""Shown to that user."""
_CLOSE, _DESTROY, _QUERY_END, _END = 0x10, 0x2, 0x11, 0x16
"""WM_CLOSE, WM_DESTROY, WM_QUERYENDSESSION, WM_ENDSESSION."""
_FIRST = 0x3FF
"""The level of those programs that are told first: before QEMU, which ends when it is told (SetProcessShutdownParameters)."""
_CLASS = "CoveEndOfSession"

_user, _kernel = ctypes.WinDLL("user32", use_last_error=True), ctypes.WinDLL("kernel32", use_last_error=True)
_result = ctypes.c_ssize_t
_Procedure = ctypes.WINFUNCTYPE(_result, wintypes.HWND, wintypes.UINT, wintypes.WPARAM, wintypes.LPARAM)


class _Class(ctypes.Structure):
    """WNDCLASSW"""

    _fields_ = [
        ("style", wintypes.UINT), ("procedure", _Procedure), ("class_extra", ctypes.c_int), ("window_extra", ctypes.c_int),
        ("instance", wintypes.HINSTANCE), ("icon", wintypes.HANDLE), ("cursor", wintypes.HANDLE), ("background", wintypes.HANDLE),
        ("menu", wintypes.LPCWSTR), ("name", wintypes.LPCWSTR),
    ]  # fmt: skip


_module = _kernel.GetModuleHandleW
_module.argtypes, _module.restype = (wintypes.LPCWSTR,), wintypes.HMODULE
_level = _kernel.SetProcessShutdownParameters
_level.argtypes = (wintypes.DWORD, wintypes.DWORD)
_register = _user.RegisterClassW
_register.argtypes, _register.restype = (ctypes.POINTER(_Class),), wintypes.ATOM
_unregister = _user.UnregisterClassW
_unregister.argtypes = (wintypes.LPCWSTR, wintypes.HINSTANCE)
_create = _user.CreateWindowExW
_create.argtypes = (
    wintypes.DWORD, wintypes.LPCWSTR, wintypes.LPCWSTR, wintypes.DWORD, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int,
    wintypes.HWND, wintypes.HMENU, wintypes.HINSTANCE, wintypes.LPVOID,
)  # fmt: skip
_create.restype = wintypes.HWND
_destroy, _quit = _user.DestroyWindow, _user.PostQuitMessage
_destroy.argtypes = (wintypes.HWND,)
_quit.argtypes, _quit.restype = (ctypes.c_int,), None
_default = _user.DefWindowProcW
_default.argtypes, _default.restype = (wintypes.HWND, wintypes.UINT, wintypes.WPARAM, wintypes.LPARAM), _result
_post = _user.PostMessageW
_post.argtypes = (wintypes.HWND, wintypes.UINT, wintypes.WPARAM, wintypes.LPARAM)
_get, _dispatch = _user.GetMessageW, _user.DispatchMessageW
_get.argtypes = (ctypes.POINTER(wintypes.MSG), wintypes.HWND, wintypes.UINT, wintypes.UINT)
_dispatch.argtypes, _dispatch.restype = (ctypes.POINTER(wintypes.MSG),), _result
_reason = _user.ShutdownBlockReasonCreate
_reason.argtypes = (wintypes.HWND, wintypes.LPCWSTR)


class Shutdown(shutdown.Shutdown):
    """From a moment after `await_it` on. A session that ends does so when this process has."""

    def __init__(self, coming: Callable[[], None]) -> None:
        self._coming = coming
        self._window: _Window | None = None

    def await_it(self) -> None:
        if self._window is None:
            loop = asyncio.get_running_loop()
            self._window = _Window(lambda: loop.call_soon_threadsafe(self._coming))

    def close(self) -> None:
        if self._window is not None:
            window, self._window = self._window, None
            window.close()


class _Window:
    """Made in a thread of its own soon after this, which is its to the end."""

    def __init__(self, ending: Callable[[], object]) -> None:
        self._ending = ending
        self._lock = threading.Lock()
        self._handle: int | None = None
        self._closed = False
        threading.Thread(target=self._live, name="end of session", daemon=True).start()

    def close(self) -> None:
        """Does not wait: its thread may be keeping Windows waiting."""
        with self._lock:
            self._closed = True
            if self._handle is not None:
                _post(self._handle, _CLOSE, 0, 0)

    def _live(self) -> None:
        instance = _module(None)
        name = f"{_CLASS}{threading.get_ident()}"
        procedure = _Procedure(self._answer)  # kept to the end of this: Windows calls it
        described = _Class(procedure=procedure, instance=instance, name=name)
        if not _register(ctypes.byref(described)):
            self._not_heard()
            return
        try:
            handle = _create(0, name, "Cove", 0, 0, 0, 0, 0, None, None, instance, None)
            if not handle:
                self._not_heard()
                return
            _level(_FIRST, 0)
            _reason(handle, WHY)
            with self._lock:
                self._handle = handle
                if self._closed:
                    _destroy(handle)
            message = wintypes.MSG()
            while _get(ctypes.byref(message), None, 0, 0) > 0:
                _dispatch(ctypes.byref(message))
        finally:
            _unregister(name, instance)

    def _not_heard(self) -> None:
        error = ctypes.WinError(ctypes.get_last_error())
        log.info("a shutdown of this computer will not wait for the machine: %s", error)

    def _answer(self, window: int, message: int, word: int, more: int) -> int:
        if message == _QUERY_END:
            return 1
        if message == _END:
            if word:
                log.info("this session is being ended")
                self._ending()
                threading.Event().wait(
                    LIMIT_S
                )  # after an answer Windows may end this process, which ends by itself before
            return 0
        if message == _CLOSE:
            with self._lock:
                self._handle = None
            _destroy(window)
            return 0
        if message == _DESTROY:
            _quit(0)
            return 0
        return int(_default(window, message, word, more))
