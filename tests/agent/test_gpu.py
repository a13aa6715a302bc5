"""GPUs that work, are sick, hang or are not there. The library is a stand-in: no test host needs a GPU."""

from __future__ import annotations

import sys
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from l4lb.agent.gpu import GpuMonitor, GpuState, NoGpuError, Nvml
from tests.helpers.waiting import wait_until


class Library:
    """Stands in for pynvml: the utilisation of each GPU, or the error that it answers with."""

    class NVMLError(Exception):
        pass

    class NVMLError_NotSupported(NVMLError):  # noqa: N801 - the library's name
        pass

    class NVMLError_Timeout(NVMLError):  # noqa: N801 - the library's name
        pass

    __spec__ = None
    nvmlEventTypeXidCriticalError = 8  # noqa: N815 - the library's name

    def __init__(self, *gpus: int | Exception) -> None:
        self.gpus = list(gpus)
        self.remap_failed = False
        self.xids: list[int] = []
        self.broken: Exception | None = None

    def nvmlInit(self) -> None:  # noqa: N802 - the library's name
        if self.broken is not None:
            raise self.broken

    def __getattr__(self, name: str) -> Any:
        return {
            "nvmlDeviceGetCount": lambda: len(self.gpus),
            "nvmlDeviceGetHandleByIndex": lambda index: index,
            "nvmlDeviceGetUtilizationRates": self._rates,
            "nvmlDeviceGetRemappedRows": lambda _: (0, 0, 0, int(self.remap_failed)),
            "nvmlEventSetCreate": object,
            "nvmlDeviceRegisterEvents": lambda *_: None,
            "nvmlEventSetWait_v2": self._event,
        }[name]

    def _rates(self, handle: int) -> SimpleNamespace:
        gpu = self.gpus[handle]
        if isinstance(gpu, Exception):
            raise gpu
        return SimpleNamespace(gpu=gpu)

    def _event(self, _events: object, _timeout: int) -> SimpleNamespace:
        if not self.xids:
            raise self.NVMLError_Timeout
        return SimpleNamespace(eventData=self.xids.pop(0))


def opened(library: Library, monkeypatch: pytest.MonkeyPatch) -> Nvml:
    monkeypatch.setitem(sys.modules, "pynvml", library)  # type: ignore[arg-type]
    nvml = Nvml()
    nvml.open()
    return nvml


def test_the_busiest_gpu_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert opened(Library(20, 70, 5), monkeypatch).read() == GpuState(0.7)


def test_a_gpu_in_parts_has_no_number_but_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    assert opened(Library(Library.NVMLError_NotSupported()), monkeypatch).read() == GpuState()


def test_a_gpu_that_is_lost_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library(20, Library.NVMLError("GPU is lost"))
    assert opened(library, monkeypatch).read() == GpuState(fault="gpu 1: GPU is lost")


def test_memory_that_cannot_be_mended_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library(20)
    library.remap_failed = True
    assert opened(library, monkeypatch).read().fault == "gpu 0: memory rows could not be remapped"


def test_a_fatal_event_is_a_fault_from_then_on_and_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library(20)
    nvml = opened(library, monkeypatch)
    library.xids = [31, 13]
    assert nvml.read().fault is None
    library.xids = [31, 79]
    assert nvml.read() == GpuState(0.2, "gpu: XID 79")
    assert nvml.read().fault == "gpu: XID 79"


@pytest.mark.parametrize("broken", [Library.NVMLError("Driver Not Loaded"), None])
def test_a_host_without_a_gpu_has_none(broken: Exception | None, monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library()
    library.broken = broken
    with pytest.raises(NoGpuError):
        opened(library, monkeypatch)


def test_without_the_library_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(NoGpuError, match="not installed"):
        Nvml().open()


# ---- the monitor -----------------------------------------------------------------------------------------------------


class Gpus:
    """GPUs that hang when a test wants them to."""

    def __init__(self) -> None:
        self.absent = False
        self.error: Exception | None = None
        self.reads = 0
        self.free = threading.Event()
        self.free.set()

    def open(self) -> None:
        self.free.wait(30)
        if self.absent:
            raise NoGpuError

    def read(self) -> GpuState:
        self.free.wait(30)
        self.reads += 1
        if self.error is not None:
            raise self.error
        return GpuState(0.5)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_gpu_that_answers_no_more_is_sick_until_it_does() -> None:
    gpus, clock = Gpus(), Clock()
    monitor = GpuMonitor(gpus, 0.01, deadline=5.0, clock=clock)
    monitor.start()
    wait_until(lambda: monitor.state() == GpuState(0.5))
    gpus.free.clear()
    clock.now += 60
    # An answer may just have been under way.
    wait_until(lambda: monitor.state() == GpuState(fault="gpu: no answer") or setattr(clock, "now", clock.now + 60))
    gpus.free.set()
    wait_until(lambda: monitor.state() == GpuState(0.5))
    monitor.close()


def test_a_driver_that_hangs_at_the_start_is_sick() -> None:
    gpus, clock = Gpus(), Clock()
    gpus.free.clear()
    monitor = GpuMonitor(gpus, 0.01, deadline=5.0, clock=clock)
    monitor.start()
    assert monitor.state() == GpuState()
    clock.now += 6
    assert monitor.state().fault == "gpu: no answer"
    gpus.free.set()
    monitor.close()


def test_an_unexpected_error_is_a_fault_and_polling_goes_on() -> None:
    gpus = Gpus()
    gpus.error = OSError("strange")
    monitor = GpuMonitor(gpus, 0.01)
    monitor.start()
    wait_until(lambda: monitor.state() == GpuState(fault="gpu: strange"))
    gpus.error = None
    wait_until(lambda: monitor.state() == GpuState(0.5))
    monitor.close()


def test_a_host_without_gpus_is_never_sick() -> None:
    gpus, clock = Gpus(), Clock()
    gpus.absent = True
    monitor = GpuMonitor(gpus, 0.01, clock=clock)
    monitor.start()
    wait_until(lambda: monitor._absent)
    clock.now += 1000
    assert monitor.state() == GpuState()


def test_a_library_that_fails_to_open_is_a_fault_and_is_tried_again() -> None:
    class Weak:
        def __init__(self) -> None:
            self.tries = 0

        def open(self) -> None:
            self.tries += 1
            if self.tries < 3:
                raise RuntimeError("not now")

        def read(self) -> GpuState:
            return GpuState(0.5)

    weak = Weak()
    states = []
    monitor = GpuMonitor(weak, 0.001)
    monitor.start()
    wait_until(lambda: states.append(monitor.state()) or states[-1] == GpuState(0.5))  # type: ignore[func-returns-value]
    monitor.close()
    assert weak.tries == 3
