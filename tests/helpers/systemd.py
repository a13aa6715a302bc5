"""The machine's own systemd, as PID 1 of a world of its own. Needs root.

The world has its own processes, mounts, host name, IPC, control groups and network. Its root is an overlay whose
changes live in memory and end with it, and /dev, /proc, /run, /sys and /tmp are its own too: nothing that systemd or a
test does inside, the cleaning of /tmp at boot included, reaches the machine.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.helpers.network import Network, isolated
from tests.helpers.waiting import wait_until

BOOT_DEADLINE = 30.0
COMMAND_DEADLINE = 60.0
SYSTEMD = "/lib/systemd/systemd"
TOOLS = ("unshare", "nsenter", "setpriv", "pivot_root", "findmnt", "systemctl")

MASKED = (
    *("systemd-journald-audit.socket", "systemd-machine-id-commit.service", "systemd-random-seed.service"),
    *("systemd-remount-fs.service", "systemd-sysctl.service", "systemd-sysusers.service", "systemd-udevd.service"),
    *("systemd-tmpfiles-setup.service", "systemd-tmpfiles-setup-dev.service", "systemd-update-utmp.service"),
)
"""What a machine needs at boot and this world does not."""

WORLD = r"""
set -eu
base=$1; shift
[ $$ = 1 ] || { echo "not PID 1 of a process namespace" >&2; exit 1; }
mount --make-rprivate /
mount -t tmpfs tmpfs "$base"
mkdir "$base/changes" "$base/scratch" "$base/root"
mount -t overlay -o "lowerdir=/,upperdir=$base/changes,workdir=$base/scratch" overlay "$base/root"
cd "$base/root"

for directory in dev run tmp var/tmp var/log; do mount -t tmpfs -o mode=755 tmpfs "$directory"; done
chmod 1777 tmp var/tmp
mount -t proc proc proc
mount -o bind,ro proc/sys proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
for device in full null random tty urandom zero; do
    touch "dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
mkdir -m 1777 dev/shm
mkdir dev/pts
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
: > etc/fstab

mkdir -p run/systemd/system
while [ "$1" != -- ]; do
    case $1 in
    mask) ln -s /dev/null "run/systemd/system/$2"; shift 2 ;;
    show) mkdir -p ".$3"; mount --rbind "$2" ".$3"; mount -o remount,bind,ro ".$3"; shift 3 ;;
    esac
done
shift

mkdir .machine
pivot_root . .machine
cd /
umount -l /.machine
rmdir /.machine
for directory in / /dev /run /tmp /var/tmp; do
    case $(findmnt -n -o FSTYPE --mountpoint "$directory" | tail -n 1) in
    overlay | tmpfs) ;;
    *) echo "$directory is not private" >&2; exit 1 ;;
    esac
done
container=l4lb-test exec setpriv --bounding-set=-sys_module,-sys_time,-sys_rawio "$@"
"""
"""What PID 1 does before it becomes the command it is given. /proc/sys and /sys are for reading only."""


class World:
    """A process tree in a world of its own, on `network`, that begins with `command`.

    `show` makes directories of the machine readable at other places.
    """

    def __init__(self, network: Network, show: Mapping[Path, str], command: tuple[str, ...]) -> None:
        self.network = network
        with contextlib.ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="l4lb-world-")))
            group = stack.enter_context(_control_group(directory.name))
            self._console = directory / "console"
            self._outer = self._spawn(directory, group, show, command)
            stack.callback(self._end)
            self._stack = stack.pop_all()

    def _spawn(
        self, directory: Path, group: Path, show: Mapping[Path, str], command: tuple[str, ...]
    ) -> subprocess.Popen[bytes]:
        mount_point = directory / "root"
        mount_point.mkdir()
        steps = [word for unit in MASKED for word in ("mask", unit)]
        steps += [word for source, target in show.items() for word in ("show", str(source), target)]
        # The shell joins the group before it is unshared: the group is the root of what is seen inside.
        # And it ends with the tests, however they end.
        enter = 'echo $$ > "$0/cgroup.procs" && exec setpriv --pdeathsig KILL "$@"'
        unshare = ("unshare", "--pid", "--mount", "--uts", "--ipc", "--cgroup", "--fork", "--kill-child", "--")
        world = ("sh", "-c", WORLD, "world", str(mount_point), *steps, "--", *command)
        with self.network.entered(), self._console.open("wb") as console:
            return subprocess.Popen(
                ["sh", "-c", enter, str(group), *unshare, *world],
                stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True,
                env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
            )  # fmt: skip

    @property
    def console(self) -> str:
        """What was written to the console."""
        return self._console.read_text(errors="replace")

    @property
    def init(self) -> int | None:
        """The first process of the world, as the machine numbers it; None when there is none (yet)."""
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children")
        with contextlib.suppress(OSError):
            return next(map(int, children.read_text().split()), None)
        return None

    def outer_pid(self, inside: int) -> int:
        """How the machine numbers a process of the world."""
        namespace = os.readlink(f"/proc/{self.init}/ns/pid")
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                status = process.joinpath("status").read_text()
                numbers = next(line.split() for line in status.splitlines() if line.startswith("NSpid:"))
                if int(numbers[-1]) == inside and os.readlink(process / "ns/pid") == namespace:
                    return int(process.name)
        raise AssertionError(f"there is no process {inside} inside")

    def path(self, inside: str) -> Path:
        """Where the machine finds a file of the world."""
        return Path(f"/proc/{self.init}/root", inside.lstrip("/"))

    def run(self, *command: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command inside to its end, whatever it is."""
        namespaces = ("--pid", "--mount", "--uts", "--ipc", "--cgroup", "--net", "--root", "--wd")
        return subprocess.run(
            ["nsenter", f"--target={self.init}", *namespaces, "--", *command],
            input=text, text=True, capture_output=True, timeout=COMMAND_DEADLINE,
        )  # fmt: skip

    def wait_booted(self) -> None:
        """Wait until systemd has started what it starts by itself."""

        def booted() -> bool:
            assert self._outer.poll() is None, f"it ended with {self._outer.returncode}: {self.console}"
            return self.init is not None and self.run("systemctl", "is-system-running").stdout.strip() in (
                "running", "degraded",
            )  # fmt: skip

        wait_until(booted, BOOT_DEADLINE, lambda: self.console)

    def wait_ended(self) -> int:
        """The exit status of the first process."""
        return self._outer.wait(COMMAND_DEADLINE)

    def close(self) -> None:
        """End every process of the world and forget what it wrote."""
        self._stack.close()

    def _end(self) -> None:
        # The kernel ends a process namespace with its first process; --kill-child sees to that one.
        self._outer.kill()
        self._outer.wait()


@contextlib.contextmanager
def booted(show: Mapping[Path, str]) -> Iterator[World]:
    """A world whose systemd is up; the test is skipped, with the reason, where that is not possible."""
    if reason := _missing():
        pytest.skip(reason)
    with isolated() as network:
        _try(network)
        world = World(network, show, (SYSTEMD, "--unit=basic.target", "--log-target=journal"))
        with contextlib.closing(world):
            world.wait_booted()
            yield world


def _try(network: Network) -> None:
    """Skip the test unless a world can be made here; what goes wrong in one is for the test to report."""
    try:
        world = World(network, {}, ("true",))
    except OSError as error:
        pytest.skip(f"no systemd of its own: {error}")
    with contextlib.closing(world):
        if world.wait_ended() != 0:
            pytest.skip(f"no systemd of its own: {world.console}")


def _missing() -> str | None:
    if os.geteuid() != 0:
        return "a systemd of its own needs root"
    if not Path(SYSTEMD).exists():
        return f"there is no {SYSTEMD}"
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"a systemd of its own needs {', '.join(missing)}"
    if _cgroup2() is None:
        return "a systemd of its own needs a cgroup2 mount"
    if "overlay" not in Path("/proc/filesystems").read_text().split():
        return "a systemd of its own needs overlayfs"
    return None


def _cgroup2() -> Path | None:
    """Where the unified hierarchy is mounted."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.split()[0] == "cgroup2":
            return Path(before.split()[4])
    return None


@contextlib.contextmanager
def _control_group(name: str) -> Iterator[Path]:
    """An empty control group below the root; what is left in it at the end is killed."""
    mount = _cgroup2()
    assert mount is not None
    group = mount / name
    group.mkdir()
    try:
        yield group
    finally:
        (group / "cgroup.kill").write_text("1")
        wait_until(lambda: "populated 0" in (group / "cgroup.events").read_text())
        for directory, _, _ in os.walk(group, topdown=False):
            Path(directory).rmdir()
