"""Answers agent checks. It measures this host at regular times, and answers at once with the last result."""

from __future__ import annotations

import asyncio
import logging

from l4lb.agent.gpu import NO_GPU, GpuMonitor
from l4lb.agent.host import Host
from l4lb.agent.report import Findings, LoadReporter
from l4lb.base.tasks import repeat
from l4lb.bounded.client import Client
from l4lb.config.fields.series import Series
from l4lb.errors import StartError
from l4lb.load.exposition import SIGNALS, Signal, Wanted
from l4lb.load.scraper import new_client, scrape
from l4lb.presets import PRESETS

LINGER = 1.0
"""Seconds that a client has to read the line and close."""

CLIENTS_MAX = 64

_log = logging.getLogger(__name__)


def known_signals() -> Wanted:
    """The metrics of all servers for which there is a preset."""
    chains: dict[Signal, dict[Series, None]] = {signal: {} for signal in SIGNALS}
    for preset in PRESETS.values():
        signals = preset.settings.get("load", {}).get("signals", {})
        for signal in SIGNALS:
            chains[signal] |= dict.fromkeys(map(Series.parse, signals.get(signal, ())))
    return {signal: tuple(chain) for signal, chain in chains.items() if chain}


class AgentServer:
    """Owns its socket and its tasks. `gpus` is None if GPUs are not to be monitored."""

    def __init__(
        self,
        bind: str | None,
        port: int,
        *,
        interval: float,
        host: Host,
        gpus: GpuMonitor | None,
        metrics_url: str | None,
    ) -> None:
        self._bind = bind
        self._port = port
        self._interval = interval
        self._host = host
        self._gpus = gpus
        self._url = metrics_url
        self._wanted = known_signals()
        self._client: Client | None = None
        self._reporter = LoadReporter(_now())
        self._server: asyncio.Server | None = None
        self._looking: asyncio.Task[None] | None = None
        self._places = asyncio.Semaphore(CLIENTS_MAX)
        self._complaint: str | None = None

    @property
    def port(self) -> int:
        """The listening port."""
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def start(self) -> None:
        """Listen, and measure the host for the first time. StartError if the port is not available."""
        if self._gpus is not None:
            self._gpus.start()
        await self._look()
        try:
            self._server = await asyncio.start_server(self._answer, self._bind, self._port, limit=1024)
        except OSError as error:
            raise StartError(f"cannot listen on port {self._port}: {error.strerror}") from error
        self._looking = asyncio.get_running_loop().create_task(self._look_again(), name="agent")

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        if self._client is not None:
            await self._client.close()
        if self._gpus is not None:
            self._gpus.close()

    async def _look_again(self) -> None:
        await repeat("the look at this host", self._interval, self._look, longest=self._interval)

    async def _look(self) -> None:
        server = None if self._url is None else await self._scrape(self._url)
        findings = Findings(
            host=self._host.read(),
            gpu=NO_GPU if self._gpus is None else self._gpus.state(),
            server=server,
            silent=server is None and self._url is not None,
        )
        self._complain(findings.gpu.fault)
        self._reporter.observe(findings, _now())

    async def _scrape(self, url: str) -> dict[Signal, float] | None:
        if self._client is None:
            self._client = new_client()
        try:
            return await scrape(self._client, url, self._wanted, max(self._interval, 1.0))
        except (OSError, TimeoutError, ValueError) as error:
            _log.debug("no metrics at %s: %s", url, error)
            return None

    def _complain(self, fault: str | None) -> None:
        if fault != self._complaint:
            self._complaint = fault
            _log.warning("%s", f"draining: {fault}" if fault else "the fault is over")

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with self._places, asyncio.timeout(LINGER):
                writer.write(self._reporter.line(_now()))
                writer.write_eof()
                # Read what the client sent: closing with unread data would reset the connection and lose the line.
                while await reader.read(1024):
                    pass
        except (OSError, TimeoutError):
            pass
        except Exception:
            _log.exception("an agent check could not be answered")
        finally:
            writer.close()


def _now() -> float:
    return asyncio.get_running_loop().time()
