"""Certificates: whom registries are trusted by (dockerd's ``certs.d``)."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from pathlib import Path

from coved.errors import InvalidParameter
from coved.registry.settings import Endpoint

_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")


def context(endpoint: Endpoint, folders: Iterable[Path], authorities: str = "") -> ssl.SSLContext:
    """What TLS with a registry is to be like. Reads files; for a thread.

    Args:
        authorities: PEM of those that are trusted beside the system's, for all.

    Raises ``InvalidParameter`` when a folder of certificates is not in order.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # as in Go: who is trusted need not have signed itself
    if endpoint.insecure:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
        return made
    made.load_default_certs()
    if ssl.get_default_verify_paths().cafile is None and _BUNDLE.exists():
        # Debian's OpenSSL looks certificates up by their hashes, which the system image has not.
        made.load_verify_locations(_BUNDLE)
    if authorities:
        try:
            made.load_verify_locations(cadata=authorities)
        except ssl.SSLError as error:
            raise InvalidParameter(f"the certificates of the host cannot be read: {error}") from None
    for folder in folders:
        own = folder / endpoint.host.replace("/", "_")
        if own.is_dir():
            _add(made, own)
            break
    return made


def _add(made: ssl.SSLContext, folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    for name in sorted(names):
        stem = name.rpartition(".")[0]
        try:
            if name.endswith(".crt"):
                made.load_verify_locations(folder / name)
            elif name.endswith(".cert"):
                if f"{stem}.key" not in names:
                    raise InvalidParameter(
                        f"missing key {stem}.key for client certificate {name}. CA certificates must use the extension .crt"
                    )
                made.load_cert_chain(folder / name, folder / f"{stem}.key", password="")
            elif name.endswith(".key") and f"{stem}.cert" not in names:
                raise InvalidParameter(f"missing client certificate {stem}.cert for key {name}")
        except (ssl.SSLError, OSError) as error:
            raise InvalidParameter(f"cannot read {folder / name}: {error}") from None
