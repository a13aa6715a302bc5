"""Clients that come one after another while something happens, and what became of each."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import Counter
from types import TracebackType
from typing import Self

from tests.helpers.network import Network
from tests.helpers.peers import Address
from tests.helpers.waiting import DEADLINE, wait_until


class Callers:
    """Each of `number` threads connects to `address`, reads the line that the server sends, and begins again, until the
    block ends. `outcomes` counts `served`, `refused`, `late` (no answer in time), and those whose connection broke:
    `unanswered` before a byte came, `cut` after one.
    """

    def __init__(self, address: Address, number: int = 4, network: Network | None = None) -> None:
        self.outcomes: Counter[str] = Counter()
        self._address = address
        self._network = network
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(number)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        self.wait_served()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(2 * DEADLINE)
            assert not thread.is_alive()

    def wait_served(self, number: int = 20) -> None:
        """Wait until so many more have been served."""
        goal = self.outcomes["served"] + number
        wait_until(lambda: self.outcomes["served"] >= goal, what=lambda: self.outcomes)

    def _run(self) -> None:
        with contextlib.nullcontext() if self._network is None else self._network.entered():
            while not self._over.is_set():
                self.outcomes[self._call()] += 1

    def _call(self) -> str:
        family = socket.AF_UNIX if isinstance(self._address, str) else socket.AF_INET
        answer = b""
        with socket.socket(family) as sock:
            sock.settimeout(DEADLINE)
            try:
                sock.connect(self._address)
                while not answer.endswith(b"\n"):
                    data = sock.recv(100)
                    if not data:
                        break
                    answer += data
            except ConnectionRefusedError:
                return "refused"
            except TimeoutError:
                return "late"
            except OSError:
                pass
        if answer.endswith(b"\n"):
            return "served"
        return "cut" if answer else "unanswered"
