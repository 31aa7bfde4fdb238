"""The stack's own certificate authority and the certificate of its servers.

The SDK refuses plain http for a vault, so the vaults speak TLS with a certificate that only
this home's clients trust. Both are made once, under a file lock: the server and those who only
need `ca.pem` may ask in any order.
"""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from local.home import replace_text

if TYPE_CHECKING:
    from pathlib import Path

    from local.home import Home

_CA_DAYS = 3650
_SERVER_DAYS = 397
_RENEW_DAYS = 30


def ca_file(home: Home) -> Path:
    """The file with the authority's certificate, for `connection_verify`; made when missing."""
    path = home.path("key_vault", "ca.pem")
    if not path.exists():
        with home.locked("key_vault_ca"):
            if not path.exists():
                _make_authority(home)
    return path


def server_context(home: Home) -> ssl.SSLContext:
    """A TLS context with a certificate for 127.0.0.1 and localhost, renewed when it runs out."""
    ca_file(home)
    path = home.path("key_vault", "server.pem")
    with home.locked("key_vault_ca"):
        if not path.exists() or _runs_out(path):
            _make_server(home)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(path)
    return context


def _make_authority(home: Home) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "KPAX local stack")])
    public = key.public_key()
    certificate = (
        _certificate(name, name, public, days=_CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )
    replace_text(home.path("key_vault", "ca.key"), _private_pem(key))
    # The certificate comes last: whoever sees it may rely on the key beside it.
    replace_text(home.path("key_vault", "ca.pem"), _public_pem(certificate), mode=0o644)


def _make_server(home: Home) -> None:
    authority = x509.load_pem_x509_certificate(home.path("key_vault", "ca.pem").read_bytes())
    signer = serialization.load_pem_private_key(
        home.path("key_vault", "ca.key").read_bytes(), None
    )
    assert isinstance(signer, ec.EllipticCurvePrivateKey)  # noqa: S101 — made above, nowhere else
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names = x509.SubjectAlternativeName(
        [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    )
    certificate = (
        _certificate(name, authority.subject, key.public_key(), days=_SERVER_DAYS)
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()),
            critical=False,
        )
        .sign(signer, hashes.SHA256())
    )
    replace_text(
        home.path("key_vault", "server.pem"), _private_pem(key) + _public_pem(certificate)
    )


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, *, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _runs_out(path: Path) -> bool:
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    return left < datetime.timedelta(days=_RENEW_DAYS)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def _public_pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
