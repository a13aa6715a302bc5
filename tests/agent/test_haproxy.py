"""Agents and balancers of different makers work together: HAProxy with this agent, and the reverse."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.agent.processes import AgentProcess, HAProxy
from tests.conftest import MakeScene
from tests.helpers.peers import Served, ask, named
from tests.helpers.waiting import wait_until
from tests.load.servers import AgentStandIn, ModelServer

needs_haproxy = pytest.mark.skipif(shutil.which("haproxy") is None, reason="needs haproxy")


@needs_haproxy
def test_haproxy_takes_its_weight_from_our_agent(tmp_path: Path) -> None:
    with ModelServer("m", "vllm:num_requests_waiting 4\nvllm:kv_cache_usage_perc 0.1\n") as server:
        url = f"http://127.0.0.1:{server.address[1]}/metrics"
        with (
            AgentProcess("--gpu", "off", "--metrics-url", url, "--interval", "0.1") as agent,
            HAProxy(tmp_path, agent.port) as haproxy,
        ):
            wait_until(lambda: 0 < int(haproxy.server()["weight"]) <= 20, what=haproxy.server)
            assert haproxy.server()["agent_status"] == "L7OK"
            # As full as can be: the least weight.
            server.metrics = "vllm:num_requests_waiting 500\n"
            wait_until(lambda: int(haproxy.server()["weight"]) == 1, deadline=20, what=haproxy.server)


@needs_haproxy
def test_haproxy_may_send_a_question(tmp_path: Path) -> None:
    with (
        AgentProcess("--gpu", "off") as agent,
        HAProxy(tmp_path, agent.port, 'agent-send "state\\n"') as haproxy,
    ):
        wait_until(lambda: haproxy.server()["agent_status"] == "L7OK", what=haproxy.server)


@needs_haproxy
def test_our_agent_ends_the_drain_of_the_agent_before_it(tmp_path: Path) -> None:
    with AgentProcess("--gpu", "off") as agent, HAProxy(tmp_path, agent.port) as haproxy:
        haproxy.tell("set server b/s state drain")
        wait_until(lambda: haproxy.server()["status"] in ("UP", "no check"), what=haproxy.server)


def test_the_agent_answers_a_line_and_hangs_up() -> None:
    with AgentProcess() as agent:
        for said in (b"", b"state\n"):
            answer = agent.answer(said)
            assert answer.startswith("up ready ")
            assert answer.endswith("%\n")


def test_the_agent_leaves_the_weight_alone_while_its_model_server_says_nothing() -> None:
    with ModelServer("m", "") as server:
        url = f"http://127.0.0.1:{server.address[1]}/metrics"
        with AgentProcess("--gpu", "off", "--metrics-url", url, "--interval", "0.1") as agent:
            assert agent.answer() == "up ready\n"
            server.metrics = "vllm:num_requests_waiting 0\n"
            wait_until(lambda: agent.answer().endswith("%\n"))


@pytest.mark.slow
def test_the_agents_own_line_moves_our_weight(balance: MakeScene) -> None:
    with Served(named("a")) as a, AgentProcess("--gpu", "off") as agent:
        scene = balance(
            {"address": a.address, "name": "a", "weight": 100},
            pool={"agent": {"port": agent.port, "interval": "50ms"}},
        )

        def applied() -> bool:
            status = scene.backend_status("a")
            return status["agent"]["message"] == f"up ready {status['effective_weight']}%"

        wait_until(applied, what=lambda: scene.backend_status("a"))


def test_our_balancer_hears_an_agent_as_haproxy_does(balance: MakeScene) -> None:
    with Served(named("a")) as a, AgentStandIn("up 25%") as agent:
        scene = balance(
            {"address": a.address, "name": "a", "weight": 8},
            pool={"agent": {"port": agent.address[1], "interval": "30ms"}},
        )

        def in_use(weight: float, state: str = "ready", health: str = "none") -> None:
            wanted = (weight, state, health)

            def found() -> tuple[object, ...]:
                status = scene.backend_status("a")
                return status["effective_weight"], status["state"], status["health"]

            wait_until(lambda: found() == wanted, what=found)

        in_use(2)
        assert ask(scene.address) == "a"
        agent.line = "drain,weight:4"
        in_use(0, "drain")
        agent.line = "ready"
        in_use(4)
        agent.line = "down #upgrade"
        in_use(0, "ready", "down")
        assert scene.backend_status("a")["health_message"] == "its agent says down: upgrade"
        agent.line = None
        failures = scene.backend_status("a")["agent"]["checks_total"]["failure"]
        wait_until(lambda: scene.backend_status("a")["agent"]["checks_total"]["failure"] > failures + 2)
        in_use(0, "ready", "down")
        agent.line = "up 100%"
        in_use(8)
