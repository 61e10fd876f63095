"""Certificates for tests, made as a region makes its own."""

from __future__ import annotations

import datetime as dt

from aifactory.provider.host import key_material


def make(*names: str) -> tuple[str, str, str]:
    """CA certificate, server certificate and key for 127.0.0.1, localhost and `names`."""
    now = dt.datetime.now(dt.UTC)
    authority = key_material.certificate_authority("t-region", now)
    server = key_material.server_certificate(
        authority.certificate, authority.private_key, ("127.0.0.1", "localhost", *names), now
    )
    return authority.certificate, server.certificate, server.private_key
