"""`l4lb agent`: runs on a backend's host and reports its load."""

from __future__ import annotations

import asyncio
import logging
import signal

import click

from l4lb.cli.parameters import duration
from l4lb.errors import StartError


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=9401, show_default=True, help="Port to answer on.")
@click.option("--bind", metavar="ADDRESS", help="Address to answer on.  [default: all]")
@click.option(
    "--gpu", type=click.Choice(["auto", "off"]), default="auto", show_default=True, help="Whether to look at GPUs."
)
@click.option(
    "--metrics-url", metavar="URL", help="Metrics of the model server, such as http://127.0.0.1:8000/metrics."
)
@click.option("--interval", type=duration, default="1s", show_default=True, help="How often to look.")
def agent(port: int, bind: str | None, gpu: str, metrics_url: str | None, interval: float) -> None:
    """Report the load of this host to a load balancer.

    Answers HAProxy's agent check with a weight in percent: what is left of the CPU and memory of this host or
    container, of its GPUs, and of the queue and KV cache of its model server. A sick GPU drains the host.

    \b
    Example:
      l4lb agent --metrics-url http://127.0.0.1:8000/metrics
    """
    import uvloop

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        uvloop.run(_serve(port, bind, gpu=gpu == "auto", metrics_url=metrics_url, interval=max(interval, 0.05)))
    except StartError as error:
        raise click.ClickException(str(error)) from error


async def _serve(port: int, bind: str | None, *, gpu: bool, metrics_url: str | None, interval: float) -> None:
    from l4lb.agent.gpu import GpuMonitor, Nvml
    from l4lb.agent.host import Host
    from l4lb.agent.server import AgentServer
    from l4lb.base.unexpected import log_unhandled

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    gpus = GpuMonitor(Nvml(), interval) if gpu else None
    server = AgentServer(bind, port, interval=interval, host=Host(), gpus=gpus, metrics_url=metrics_url)
    with log_unhandled(loop):
        try:
            await server.start()
            logging.getLogger(__name__).info("l4lb agent answers on port %d", server.port)
            await stop.wait()
        finally:
            await server.close()
