from __future__ import annotations

import asyncio
import ssl
import threading

import pytest

from l4lb.bounded.client import Client
from l4lb.bounded.url import Url


def test_certificates_are_read_by_one_thread_however_often_a_server_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that hangs takes a thread, and not another one for each request."""
    begun, release = [], threading.Event()

    def hang() -> ssl.SSLContext:
        begun.append(threading.current_thread())
        release.wait(10)
        raise OSError

    async def ask_again_and_again() -> None:
        client = Client()
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05), client.request(Url.parse("https://127.0.0.1:1/"), {}):
                    pass

    monkeypatch.setattr(ssl, "create_default_context", hang)
    try:
        asyncio.run(ask_again_and_again())
        assert len(begun) == 1
    finally:
        release.set()
        for thread in begun:
            thread.join()
