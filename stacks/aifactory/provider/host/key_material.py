"""Keys and certificates made on this machine: the SSH login, the region's CA, its server certificate, bearer keys.

Pure but for the random source; the time is given. Everything is returned as text, nothing is written.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import ipaddress
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_DAYS = 3652
SERVER_DAYS = 397
"""Longest life that clients of the public web accept; the same habit for a private CA."""
BACKDATE = dt.timedelta(hours=1)
"""Certificates begin this much earlier, for machines whose clock is behind."""


@dataclass(frozen=True)
class Issued:
    """A certificate with its key, both PEM, and when it ends."""

    certificate: str
    private_key: str
    expires_at: dt.datetime


def ssh_key_pair() -> tuple[str, str]:
    """(private key in OpenSSH format without passphrase, public line `ssh-ed25519 AAAA…` without comment)."""
    key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return private.decode(), public.decode()


def certificate_authority(region: str, now: dt.datetime) -> Issued:
    """A self-signed ECDSA P-256 CA that signs server certificates only (path length 0)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"aifactory {region} CA")])
    usage = x509.KeyUsage(
        digital_signature=False, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    expires_at = now + dt.timedelta(days=CA_DAYS)
    certificate = (
        _builder(name, name, key.public_key(), now, expires_at)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Issued(_pem(certificate), _key_pem(key), expires_at)


def server_certificate(ca_certificate: str, ca_key: str, names: Sequence[str], now: dt.datetime) -> Issued:
    """A fresh key and its certificate for `names` (DNS names and IP addresses), at most as long as the CA lives."""
    authority = x509.load_pem_x509_certificate(ca_certificate.encode())
    signer = serialization.load_pem_private_key(ca_key.encode(), None)
    if not isinstance(signer, ec.EllipticCurvePrivateKey):
        raise ValueError("the CA key is not an elliptic-curve key")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    expires_at = min(now + dt.timedelta(days=SERVER_DAYS), authority.not_valid_after_utc)
    certificate = (
        _builder(subject, authority.subject, key.public_key(), now, expires_at)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(n) for n in names]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )
    return Issued(_pem(certificate), _key_pem(key), expires_at)


def client_key(region: str) -> str:
    """A bearer key for the front door: 32 random bytes behind a prefix that secret scanners can know."""
    return f"sk-{region}-{secrets.token_urlsafe(32)}"


def upstream_key() -> str:
    """The key that the front door shows to the engines."""
    return secrets.token_urlsafe(32)


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: dt.datetime, expires_at: dt.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(expires_at)
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
