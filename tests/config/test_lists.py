"""Networks out of files: beside those of the configuration, relative to it, bounded, and wrong at their line."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l4lb.config import Config, load_config, read_config
from l4lb.config import load as load_module
from l4lb.config.fields.networks import NetworkFile, read_network
from l4lb.config.lists import PROBLEMS_MAX, NetworkFiles
from l4lb.engine.packing import pack_networks
from l4lb.errors import ConfigError, Problem
from l4lb.state.access import _packed
from tests.config.conftest import Load, Problems, Write

POOLS = """
pools: {web: {backends: [10.0.0.1:80]}}
"""


def listener(lists: str) -> str:
    return f"listeners: {{web: {{bind: 127.0.0.1:0, pool: web, {lists}}}}}{POOLS}"


def parsed(data: bytes, path: str = "x.lst") -> tuple[bytes, list[Problem]]:
    problems: list[Problem] = []
    return NetworkFiles(problems, [])._parsed(path, data), problems


def packed(*networks: str) -> bytes:
    return pack_networks(map(read_network, networks))


def denied(config: Config) -> bytes:
    return _packed(config.listeners["web"].deny)


def test_a_file_stands_for_its_networks_alone_or_beside_others(load: Load, write: Write) -> None:
    write("10.1.0.0/16\n2001:db8::/32\n", "deny.lst")
    assert denied(load(listener("deny: {file: deny.lst}"))) == packed("10.1.0.0/16", "2001:db8::/32")
    both = denied(load(listener("deny: [10.9.0.0/16, {file: deny.lst}]")))
    assert both == packed("10.1.0.0/16", "2001:db8::/32", "10.9.0.0/16")


def test_comments_empty_lines_and_marks_of_editors_are_nothing(load: Load, tmp_path: Path) -> None:
    text = b"\xef\xbb\xbf# blocked\r\n\r\n 10.1.0.0/16\t# caf\xe9\r\n192.0.2.7 ; SBL1\n\n::1"
    (tmp_path / "deny.lst").write_bytes(text)
    assert denied(load(listener("deny: {file: deny.lst}"))) == packed("10.1.0.0/16", "192.0.2.7", "::1")


def test_every_list_of_networks_takes_files(load: Load, write: Write) -> None:
    write("10.1.0.0/16\n", "some.lst")
    config = load(
        "zones: {eu: [{file: some.lst}, 10.2.0.0/16]}\ndefaults: {allow: {file: some.lst}}\n"
        + listener("deny: {file: some.lst}, proxy_protocol: {from: [{file: some.lst}]}")
    )
    web = config.listeners["web"]
    assert web.proxy_protocol is not None
    for entries in (web.allow, web.deny, web.proxy_protocol.from_, config.zones["eu"][:1]):
        assert [getattr(entry, "packed", b"") for entry in entries] == [packed("10.1.0.0/16")]


def test_a_path_is_relative_to_the_file_that_names_it(load: Load, write: Write) -> None:
    write("10.1.0.0/16\n", "conf.d/deny.lst")
    write("listeners: {web: {bind: '127.0.0.1:0', pool: web, deny: {file: deny.lst}}}", "conf.d/web.yaml")
    assert denied(load(f"include: conf.d/*.yaml{POOLS}")) == packed("10.1.0.0/16")


def test_a_file_is_read_once_however_many_name_it(load: Load, write: Write) -> None:
    write("10.1.0.0/16\n", "deny.lst")
    names = [f"l{number}: {{bind: 127.0.0.1:0, pool: web, deny: {{file: deny.lst}}}}" for number in range(20)]
    config = load(f"listeners: {{{', '.join(names)}}}{POOLS}")
    assert len({id(entry) for one in config.listeners.values() for entry in one.deny}) == 1


def test_in_a_mapping_too_a_file_may_be_named(write: Write) -> None:
    path = Path(write("10.1.0.0/16\n", "deny.lst"))
    data = {
        "listeners": {"web": {"bind": "127.0.0.1:0", "pool": "web", "deny": {"file": path}}},
        "pools": {"web": {"backends": []}},
    }
    assert denied(read_config(data)) == packed("10.1.0.0/16")
    path.write_text("\nnonsense\n")
    with pytest.raises(ConfigError) as caught:
        read_config(data)
    assert str(caught.value).startswith(f"{path}:2:1: error: 'nonsense' is not a network")
    path.unlink()
    with pytest.raises(ConfigError, match=r"^error: listeners\.web\.deny: cannot read .* No such file"):
        read_config(data)


def test_a_bad_line_is_an_error_at_its_line(problems: Problems, write: Write) -> None:
    write("10.1.0.0/16\n# fine\n10.2.0.1/16\nexample.com\n10.0.0.0/33\n\n10.3.0.0/16 10.4.0.0/16\n", "deny.lst")
    assert problems(listener("deny: {file: deny.lst}")) == [
        "deny.lst:3:1: error: '10.2.0.1/16' has bits set after its prefix; write 10.2.0.0/16",
        "deny.lst:4:1: error: 'example.com' is not a network; write 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32",
        "deny.lst:5:1: error: '10.0.0.0/33' is not a network; write 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32",
        "deny.lst:7:1: error: '10.3.0.0/16 10.4.0.0/16' is not a network; write 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32",
    ]


def test_a_file_of_another_kind_is_not_gone_through_to_its_end(problems: Problems, write: Write) -> None:
    write("no network\n" * 100_000, "deny.lst")
    found = problems(listener("deny: {file: deny.lst}"))
    assert len(found) == PROBLEMS_MAX
    assert found[-1].endswith("; there is more wrong below, which is not looked at")


@pytest.mark.parametrize(
    ("lists", "problem"),
    [
        ("deny: {file: none.lst}", "listeners.web.deny: cannot read"),
        ("deny: [10.0.0.0/8, {file: none.lst}]", "listeners.web.deny[1]: cannot read"),
        ("deny: {file: .}", "it is a directory"),
        ("deny: {file: /dev/zero}", "it is not a regular file"),
        ("deny: {files: a.lst}", "a network is expected, or {file: PATH}"),
        ("deny: {file: a.lst, more: 1}", "a network is expected, or {file: PATH}"),
        ("deny: {file: [a.lst]}", "a network is expected, or {file: PATH}"),
        ("deny: {file: }", "a network is expected, or {file: PATH}"),
        ("deny: [[10.0.0.0/8]]", "is not a network"),
    ],
)
def test_what_is_no_file_of_networks_says_so(problems: Problems, lists: str, problem: str) -> None:
    (found,) = problems(listener(lists))
    assert problem in found


def test_a_file_may_have_a_million_networks_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("l4lb.config.lists.FILE_NETWORKS_MAX", 1000)
    lines = b"".join(b"10.%d.%d.0/24\n" % (number // 256, number % 256) for number in range(1001))
    assert parsed(lines[: lines.rindex(b"\n", 0, -1) + 1])[1] == []
    (problem,) = parsed(lines)[1]
    assert (problem.line, problem.message) == (1001, "there are more than 1000 networks; a file may have so many")


def test_files_are_bounded_together(problems: Problems, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_module, "NetworkFiles", functools.partial(NetworkFiles, _bytes_left=100))
    write("10.1.0.0/16\n" * 5, "a.lst")
    write("10.1.0.0/16\n" * 5, "b.lst")
    (found,) = problems(listener("deny: [{file: a.lst}, {file: b.lst}]"))
    assert "the files of networks are larger than" in found


@given(st.lists(st.text(alphabet="0123456789abcdef:./#; \t%x-", max_size=24).filter(lambda text: "\n" not in text)))
def test_the_short_way_says_what_the_long_one_does(lines: list[str]) -> None:
    """A line in a file and an entry in the configuration are the same networks, or both none."""
    expected = b""
    wrong = []
    for number, line in enumerate(lines, 1):
        word = line.partition("#")[0].partition(";")[0].strip()
        try:
            expected += packed(word) if word else b""
        except ValueError:
            wrong.append(number)
    found, problems = parsed("\n".join(lines).encode())
    assert [problem.line for problem in problems] == wrong[:PROBLEMS_MAX]
    if not wrong:
        assert found == expected


@given(st.ip_addresses(), st.integers(0, 128))
def test_networks_of_every_length_are_packed_as_the_data_plane_wants_them(address: object, length: int) -> None:
    text = f"{address}/{length}"
    try:
        expected = packed(text)
    except ValueError:
        expected = b""
    assert parsed(text.encode())[0] == expected


def test_a_list_is_the_same_if_its_networks_are(load: Load, write: Write) -> None:
    write("10.1.0.0/16\n", "a.lst")
    first = load(listener("deny: {file: a.lst}")).listeners["web"]
    write("# the same\n10.1.0.0/16\n", "a.lst")
    assert load(listener("deny: {file: a.lst}")).listeners["web"] == first
    write("10.2.0.0/16\n", "a.lst")
    assert load(listener("deny: {file: a.lst}")).listeners["web"] != first


def test_a_directory_leaves_no_descriptor_open(problems: Problems) -> None:
    before = os.listdir("/proc/self/fd")
    for text in (listener("deny: {file: .}"), f"include: [.]{POOLS}"):
        assert "it is a directory" in str(problems(text))
    assert os.listdir("/proc/self/fd") == before


def test_what_it_prints_of_itself_is_short() -> None:
    assert len(repr(NetworkFile("x.lst", bytes(17_000_000)))) < 100


def test_load_config_finds_a_file_beside_a_relative_configuration(
    write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write("10.1.0.0/16\n", "deny.lst")
    write(listener("deny: {file: deny.lst}"))
    monkeypatch.chdir(tmp_path)
    assert denied(load_config("l4lb.yaml", {})) == packed("10.1.0.0/16")
