# SPDX-License-Identifier: Apache-2.0
"""Certificates of all kinds, made by an authority of the test's own."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = timedelta(days=1)
Period = tuple[datetime, datetime]
"""From when to when a certificate is valid."""


@dataclass(frozen=True)
class Issued:
    """A certificate with its key, in PEM form."""

    certificate: bytes
    key: bytes

    def write(self, directory: Path, name: str) -> tuple[Path, Path]:
        """Write both. Returns the paths of the certificate and of the key."""
        paths = directory / f"{name}.pem", directory / f"{name}.key"
        paths[0].write_bytes(self.certificate)
        paths[1].write_bytes(self.key)
        return paths


class Authority:
    """A certificate authority that clients and servers may trust, or not."""

    def __init__(self, name: str = "test authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        self._certificate = (
            _builder(self._name, self._name, self._key, (_now() - DAY, _now() + 30 * DAY))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def pem(self) -> bytes:
        """The authority's certificate."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def server(self, *, days: int = 10) -> Issued:
        """Issue a certificate for servers on this machine."""
        names: list[x509.GeneralName] = [
            x509.DNSName("localhost"),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        ]
        return self._issue(names, ExtendedKeyUsageOID.SERVER_AUTH, days)

    def client(self, uris: Sequence[str], *, days: int = 10) -> Issued:
        """Issue a certificate for a client. days: how long it is valid; negative: since when it no longer is."""
        return self._issue(
            [x509.UniformResourceIdentifier(uri) for uri in uris], ExtendedKeyUsageOID.CLIENT_AUTH, days
        )

    def _issue(self, names: Sequence[x509.GeneralName], usage: x509.ObjectIdentifier, days: int) -> Issued:
        key = ec.generate_private_key(ec.SECP256R1())
        end = _now() + days * DAY
        builder = _builder(_name("test"), self._name, key, (min(_now(), end) - DAY, end))
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return Issued(certificate.public_bytes(serialization.Encoding.PEM), key_pem(key))


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return an unencrypted private key in PEM form."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 (certificates are checked against the machine's clock)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, period: Period
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(period[0])
        .not_valid_after(period[1])
    )
