"""How host and guest know each other on a socket that others can connect to as well (docs/decisions/0056).

The host says 16 random bytes; the guest says 16 of its own, and what only who has the key can make of both; the host says what only who
has the key can make of both. Frames follow.
"""

from __future__ import annotations

import hmac

PORT = 0xC07E
"""Of vsock. As a service of Hyper-V: `HYPERV_SERVICE`."""
HYPERV_SERVICE = f"{PORT:08x}-facb-11e6-bd58-64006a7986d3"
"""Hyper-V's name of it in a Linux guest ("Make your own integration services" in its documentation)."""
NONCE_SIZE = 16
PROOF_SIZE = 32


def guests_proof(key: bytes, hosts: bytes, guests: bytes) -> bytes:
    return hmac.digest(key, b"guest" + hosts + guests, "sha256")


def hosts_proof(key: bytes, hosts: bytes, guests: bytes) -> bytes:
    return hmac.digest(key, b"host" + hosts + guests, "sha256")


def same(one: bytes, other: bytes) -> bool:
    return hmac.compare_digest(one, other)
