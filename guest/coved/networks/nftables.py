"""libnftables(3) in this process: each text is one transaction, all of it or nothing."""

from __future__ import annotations

import ctypes
import functools

from coved.errors import EngineError

_LIBRARY = "libnftables.so.1"


class FirewallError(EngineError):
    """The kernel or libnftables refused a change; nothing of it was made."""


@functools.cache
def load() -> ctypes.CDLL:
    """The library, with the functions that are used. Raises `FirewallError`."""
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise FirewallError(
            f"cannot load {_LIBRARY}, which publishes ports and reaches networks: {error}; "
            "install the package libnftables1 (Debian) or nftables"
        ) from None
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    library.nft_ctx_free.argtypes = [ctypes.c_void_p]
    library.nft_ctx_set_dry_run.argtypes = [ctypes.c_void_p, ctypes.c_bool]
    for function in (library.nft_ctx_buffer_error, library.nft_ctx_buffer_output):
        function.argtypes = [ctypes.c_void_p]
    for function in (library.nft_ctx_get_error_buffer, library.nft_ctx_get_output_buffer):
        function.restype = ctypes.c_char_p
        function.argtypes = [ctypes.c_void_p]
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    return library


class Nftables:
    """One libnftables context. It belongs to the thread's network namespace, and is used by one thread at a time.

    Args:
        dry: nothing is changed (nft's ``--check``).
    """

    def __init__(self, *, dry: bool = False) -> None:
        self._library = library = load()
        self._context = library.nft_ctx_new(0)
        if not self._context:
            raise FirewallError("libnftables cannot be set up: out of memory, or no permission to use netfilter")
        library.nft_ctx_set_dry_run(self._context, dry)
        library.nft_ctx_buffer_error(self._context)
        library.nft_ctx_buffer_output(self._context)

    def run(self, commands: str) -> str:
        """Runs commands in nft's own language as one transaction, and gives what they print.

        Raises:
            FirewallError: with libnftables' words; nothing was changed.
        """
        failed = self._library.nft_run_cmd_from_buffer(self._context, commands.encode())
        errors = (self._library.nft_ctx_get_error_buffer(self._context) or b"").decode(errors="replace")
        output = (self._library.nft_ctx_get_output_buffer(self._context) or b"").decode(errors="replace")
        if failed:
            raise FirewallError(f"nftables: {errors.strip() or 'unknown error'}")
        return output

    def close(self) -> None:
        if self._context:
            self._library.nft_ctx_free(self._context)
            self._context = None
