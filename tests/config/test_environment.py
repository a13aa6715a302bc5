from __future__ import annotations

import pytest

from l4lb.config.environment import expand
from tests.config.conftest import Load, Problems

ENVIRON = {"HOST": "10.0.0.1", "EMPTY": "", "NESTED": "${HOST}", "BYTES": "\udcff"}


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("${HOST}:80", "10.0.0.1:80"),
        ("${HOST}${HOST}", "10.0.0.110.0.0.1"),
        ("${NOPE:-fallback}", "fallback"),
        ("${NOPE:-}", ""),
        ("${EMPTY:-fallback}", "fallback"),
        ("${EMPTY}", ""),
        ("${HOST:-fallback}", "10.0.0.1"),
        ("${NOPE:-a:-b $x}", "a:-b $x"),
        ("$${HOST}", "${HOST}"),
        ("$$${HOST}", "$${HOST}"),
        ("$HOST $ {HOST}", "$HOST $ {HOST}"),
        ("${NESTED}", "${HOST}"),
    ],
)
def test_references_are_replaced_as_a_shell_does(text: str, expanded: str) -> None:
    assert expand(text, ENVIRON) == (expanded, [])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("${NOPE}", "the environment variable NOPE is not set; set it or write ${NOPE:-default}"),
        ("${BYTES}", "the environment variable BYTES holds bytes that are not UTF-8 text"),
        ("${}", "'${}' is not a reference; write ${NAME} or ${NAME:-default}, or $${ for ${"),
        ("${1A}", "'${1A}' is not a reference; write ${NAME} or ${NAME:-default}, or $${ for ${"),
        ("${A-b}", "'${A-b}' is not a reference; write ${NAME} or ${NAME:-default}, or $${ for ${"),
        ("${HOST", "'${HOST' is not a reference; write ${NAME} or ${NAME:-default}, or $${ for ${"),
    ],
)
def test_a_reference_that_stands_for_nothing_is_a_complaint(text: str, complaint: str) -> None:
    assert expand(text, ENVIRON)[1] == [complaint]


def test_values_read_the_environment_and_take_their_type_from_it(load: Load) -> None:
    config = load(
        """
        listeners:
          web: {bind: "127.0.0.1:${PORT}", pool: "${POOL:-web}"}
        pools:
          web:
            retries: ${RETRIES}
            backends: ["${FIRST}"]
        """,
        PORT="8080",
        RETRIES="7",
        FIRST="unix:/run/first.sock",
    )
    assert str(config.listeners["web"].bind[0]) == "127.0.0.1:8080"
    assert config.pools["web"].retries == 7
    assert config.pools["web"].backends[0].address.path == "/run/first.sock"


def test_a_missing_variable_is_one_problem_at_its_place(problems: Problems) -> None:
    assert problems(
        """
        listeners:
          web: {bind: "127.0.0.1:1", pool: web}
        pools:
          web:
            backends:
              - ${NOPE}
        """
    ) == [
        "l4lb.yaml:6:9: error: pools.web.backends[0]: the environment variable NOPE is not set; "
        "set it or write ${NOPE:-default}"
    ]


def test_an_unquoted_reference_in_a_flow_list_is_told_to_take_quotes(problems: Problems) -> None:
    (problem,) = problems("pools: {web: {backends: [${FIRST}]}}", FIRST="127.0.0.1:80")
    assert "put a value with ${VAR} in quotes" in problem
