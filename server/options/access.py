"""The flags about who may call."""

from pathlib import Path

from server.config import Access
from server.options.flag import Flag, Group, Repeatable
from server.options.values import host, listed, nothing, origin

ACCESS = Group(
    "access",
    "Who may call, and how. /health and /ready never ask for a key.",
    Access,
    {
        "api_key_file": Flag(
            "api-key-file",
            "FILE",
            Path,
            "keys, one a line, one of which each request must show: Authorization: Bearer KEY",
            "no key is asked for",
            nothing,
        ),
        "cors_origins": Repeatable(
            "cors-origin",
            "ORIGIN",
            listed(origin),
            "pages of this origin may call from a browser: https://example.com",
            "none",
            tuple,
        ),
        "allowed_hosts": Repeatable(
            "allowed-host",
            "HOST",
            listed(host),
            "one more name of a server on a loopback address, or * for any; 421 to others",
            "none",
            tuple,
        ),
        "tls_certificate": Flag(
            "tls-certificate",
            "FILE",
            Path,
            "speak TLS with this certificate and its chain, in PEM form",
            "no TLS",
            nothing,
        ),
        "tls_key": Flag("tls-key", "FILE", Path, "the certificate's key", "no TLS", nothing),
    },
)
