"""Where the Docker engine is, and why it may not be spoken to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from obi_mcp.config import Settings
from obi_mcp.errors import ConfigError

SYSTEM_SOCKET = "unix:///var/run/docker.sock"
_CERTIFICATES = ("ca.pem", "cert.pem", "key.pem")


@dataclass(frozen=True, slots=True)
class Address:
    """``url`` begins with ``unix://`` or ``tcp://``. ``certificates``: the directory of a TLS client's files, or empty.
    ``source``: which setting said so."""

    url: str
    source: str
    certificates: str = ""

    @property
    def socket(self) -> str:
        """The path of a unix socket; empty for TCP."""
        return self.url.removeprefix("unix://") if self.url.startswith("unix://") else ""

    @property
    def local(self) -> bool:
        """Whether it is on this host by its address: a socket, which may still lead into a virtual machine."""
        return bool(self.socket)


def engine_address(settings: Settings, environ: Mapping[str, str]) -> Address:
    """``docker.host``, else ``DOCKER_HOST``, else the system's socket.

    Raises: ConfigError for ``ssh://``, and for what is no address.
    """
    configured, variable = settings.docker.host, environ.get("DOCKER_HOST", "")
    url, source = (configured, "docker.host") if configured else (variable, "DOCKER_HOST")
    if not url:
        return Address(SYSTEM_SOCKET, "the default")
    scheme = url.partition("://")[0]
    if scheme == "ssh":
        raise ConfigError(
            f"{source} is {url!r}, and ssh:// is not spoken here",
            f"forward the socket yourself (ssh -nNT -L /run/user/{os.getuid()}/engine.sock:/var/run/docker.sock HOST), "
            f"and set docker.host to unix:///run/user/{os.getuid()}/engine.sock",
        )
    if scheme == "unix" and url.removeprefix("unix://").startswith("/"):
        return Address(url, source)
    if scheme == "tcp" and _has_port(url):
        return Address(url, source, _certificates(environ))
    raise ConfigError(
        f"{source} is {url!r}, which is no address of a Docker engine",
        f"give it like {SYSTEM_SOCKET} or tcp://HOST:2376",
    )


def _has_port(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port is not None and not parts.username
    except ValueError:
        return False


def _certificates(environ: Mapping[str, str]) -> str:
    """The folder that the docker command line would take, when TLS is asked for. Raises: ConfigError."""
    if not environ.get("DOCKER_TLS_VERIFY"):
        return ""
    folder = environ.get("DOCKER_CERT_PATH") or os.path.join(environ.get("HOME", "/"), ".docker")
    missing = [name for name in _CERTIFICATES if not os.path.exists(os.path.join(folder, name))]
    if missing:
        raise ConfigError(
            f"DOCKER_TLS_VERIFY is set, and {folder} has no {', '.join(missing)}",
            "set DOCKER_CERT_PATH to the folder with ca.pem, cert.pem and key.pem",
        )
    return folder
