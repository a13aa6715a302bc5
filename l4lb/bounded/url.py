"""URLs of servers that l4lb sends requests to. Pure."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from typing import Self
from urllib.parse import SplitResult, unquote, urlsplit

from l4lb.net.interfaces import known_to_peers


@dataclass(frozen=True, slots=True)
class Url:
    """`host` is without brackets; `target` is what the request line contains."""

    secure: bool
    host: str
    port: int
    target: str
    credentials: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `http://host:port/path?query` or the same with https. ValueError says what is wrong."""
        parts = urlsplit(text)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("a URL begins with http:// or https:// and a host")
        try:
            port = parts.port
        except ValueError:
            port = 0
        if port == 0:
            raise ValueError("the port of a URL is 1 to 65535")
        secure = parts.scheme == "https"
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(secure, parts.hostname, port or (443 if secure else 80), target, _credentials(parts))

    def at(self, target: str) -> Url:
        """The URL of another target on the same server."""
        return Url(self.secure, self.host, self.port, target, self.credentials)

    def under(self, target: str) -> Url:
        """The URL of a target below this one."""
        return self.at(self.target.rstrip("/") + target)

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        plain = known_to_peers(self.host)
        host = f"[{plain}]" if ":" in plain else plain
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"


def _credentials(parts: SplitResult) -> str | None:
    """The value of the Authorization header; None if the URL has no user."""
    if parts.username is None:
        return None
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return f"Basic {b64encode(pair.encode()).decode('ascii')}"
