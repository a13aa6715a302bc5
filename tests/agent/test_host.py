"""What is measured is what is limited: the container where there is one, else the host."""

from __future__ import annotations

from pathlib import Path

import pytest

from l4lb.agent.host import Host


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)


def test_a_container_is_measured_by_its_limits(tmp_path: Path) -> None:
    clock = Clock()
    write(
        tmp_path,
        cpu_max="200000 100000\n",
        cpu_stat="usage_usec 5000000\nuser_usec 1\n",
        memory_max="1000\n",
        memory_current="700\n",
        memory_stat="anon 400\ninactive_file 200\n",
        cpu_pressure="some avg10=12.50 avg60=0.00 avg300=0.00 total=1\nfull avg10=0.00 avg60=0 avg300=0 total=0\n",
        memory_pressure="some avg10=50.00 avg60=0 avg300=0 total=1\nfull avg10=7.00 avg60=0 avg300=0 total=0\n",
    )
    host = Host(tmp_path, tmp_path / "none", clock)
    first = {"memory": 0.5, "cpu_pressure": 0.125, "memory_pressure": 0.07}
    # How busy it is takes two looks.
    assert host.read() == pytest.approx(first)
    clock.now += 2
    write(tmp_path, cpu_stat="usage_usec 8000000\n")
    assert host.read() == pytest.approx(first | {"cpu": 0.75})
    clock.now += 1
    write(tmp_path, cpu_stat="usage_usec 20000000\n")
    assert host.read()["cpu"] == 1.0


@pytest.mark.parametrize("limit", [{}, {"cpu_max": "max 100000", "memory_max": "max", "memory_current": "5"}])
def test_a_host_without_limits_is_measured_as_a_whole(
    tmp_path: Path, limit: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Memory:
        percent = 40.0

    monkeypatch.setattr("psutil.cpu_percent", lambda _interval: 25.0)
    monkeypatch.setattr("psutil.virtual_memory", Memory)
    write(tmp_path, cpu_stat="usage_usec 1\n", **limit)
    (tmp_path / "pressure").mkdir()
    (tmp_path / "pressure/cpu").write_text("some avg10=30.00 avg60=0.00 avg300=0.00 total=0\n")
    assert Host(tmp_path, tmp_path).read() == {"cpu": 0.25, "memory": 0.4, "cpu_pressure": 0.3}


def test_this_host_can_be_measured() -> None:
    found = Host().read()
    assert "memory" in found
    assert all(0 <= share <= 1 for share in found.values())
