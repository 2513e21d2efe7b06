"""Keys by which two processes of this user know each other. Nobody else's certificate is signed by the same authority, whose key is
forgotten as soon as both are made."""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

AUTHORITY = "ca-cert.pem"
NAME = "qemu.cove.invalid"
"""The server's; a name that is nobody's (RFC 2606)."""
_YEARS = datetime.timedelta(days=3650)
_DAY = datetime.timedelta(days=1)


def make(folder: Path) -> None:
    """Write both sides' into a folder that is private, by the names that QEMU reads (docs/system/tls in its sources). Raises `OSError`."""
    key = ec.generate_private_key(ec.SECP256R1())
    authority = _certificate("cove channels", key, "cove channels", key)
    (folder / AUTHORITY).write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    for side, usage in (("server", ExtendedKeyUsageOID.SERVER_AUTH), ("client", ExtendedKeyUsageOID.CLIENT_AUTH)):
        its = ec.generate_private_key(ec.SECP256R1())
        certificate = _certificate(NAME if side == "server" else "agent", its, "cove channels", key, usage)
        (folder / f"{side}-cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        place = folder / f"{side}-key.pem"
        place.touch(0o600)
        place.write_bytes(
            its.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )


def _certificate(
    subject: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuers_key: ec.EllipticCurvePrivateKey,
    usage: ObjectIdentifier | None = None,
) -> x509.Certificate:
    """`usage`: None for the authority."""
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)  # clocks are set back, too
        .not_valid_after(now + _YEARS)
        .add_extension(x509.BasicConstraints(ca=usage is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuers_key.public_key()), critical=False
        )
        .add_extension(
            x509.KeyUsage(
                digital_signature=usage is not None, key_cert_sign=usage is None, content_commitment=False,
                key_encipherment=False, data_encipherment=False, key_agreement=False, crl_sign=False,
                encipher_only=False, decipher_only=False,
            ),
            critical=True,
        )
    )  # fmt: skip
    if usage is not None:
        made = made.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(subject)]), critical=False)
    return made.sign(issuers_key, hashes.SHA256())
