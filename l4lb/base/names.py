"""The name of a backend as commands and the Python API have it: `POOL/BACKEND`."""

from __future__ import annotations


def split_backend(name: str) -> tuple[str, str]:
    """The names of the pool and of the backend in it. ValueError says what is wrong."""
    pool, separator, backend = name.partition("/")
    if not (pool and separator and backend):
        raise ValueError(f"'{name}' is not POOL/BACKEND; `l4lb status` shows the names")
    return pool, backend
