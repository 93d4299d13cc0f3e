"""The server's certificates, in a folder laid out as nbdkit, qemu and libnbd have it.

server-cert.pem   the server's certificate, and those between it and its authority
server-key.pem    its private key, not encrypted
ca-cert.pem       whose certificates clients must show; without it none are asked for
"""

import ssl
from pathlib import Path

from ebsim.errors import InvalidRequest


def server_context(folder: Path) -> ssl.SSLContext:
    """TLS 1.2 and later with the certificates in *folder*.

    Raises:
        InvalidRequest: one of the two that have to be there is missing, or one is no
            certificate or key.

    Source:
        https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md, section "TLS
        versions"
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    authority = folder / "ca-cert.pem"
    try:
        context.load_cert_chain(
            folder / "server-cert.pem", folder / "server-key.pem", password=_no_password
        )
        if authority.exists():
            context.load_verify_locations(authority)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ValueError) as error:
        raise InvalidRequest(
            f"the certificates in {folder} cannot be used: {error}. Expected server-cert.pem, "
            "server-key.pem and, to verify clients, ca-cert.pem. Nothing is served. Give "
            "another --tls-dir."
        ) from error
    return context


def _no_password() -> str:
    # Otherwise OpenSSL would ask at the terminal.
    raise ValueError("server-key.pem is encrypted")
