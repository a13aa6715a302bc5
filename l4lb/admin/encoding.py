"""Which content encodings a client accepts (RFC 9110, 12.5.3). Pure."""

from __future__ import annotations

NAMES = ("gzip", "x-gzip", "*")


def accepts_gzip(header: str) -> bool:
    """Whether an Accept-Encoding field allows gzip. An entry for gzip goes before one for `*`."""
    weights: dict[str, bool] = {}
    for item in header.lower().split(","):
        name, _, parameters = item.partition(";")
        weights.setdefault(name.strip(), _is_wanted(parameters))
    return next((weights[name] for name in NAMES if name in weights), False)


def _is_wanted(parameters: str) -> bool:
    for parameter in parameters.split(";"):
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            return value.strip().strip("0.") != ""
    return True
