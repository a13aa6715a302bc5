"""The state of the GPUs according to NVML. A faulty GPU may block NVML for ever, so a separate thread asks."""

from __future__ import annotations

import contextlib
import importlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

DEADLINE = 5.0
"""A GPU that has not answered for this many seconds counts as faulty."""

FATAL_XIDS = frozenset({48, 63, 64, 74, 79, 94, 95, 119, 120})
"""Errors after which a GPU or its host needs attention: memory, NVLink, GPU lost from the bus, firmware."""


@dataclass(frozen=True, slots=True)
class GpuState:
    """`utilisation` is that of the busiest GPU, None without a GPU. `fault` says why this host should get no work."""

    utilisation: float | None = None
    fault: str | None = None


NO_GPU = GpuState()


class NoGpuError(Exception):
    """This host has no GPU, or no driver for it."""


class Gpus(Protocol):
    """Access to the GPUs. Calls may block for ever, so they are made on a separate thread."""

    def open(self) -> None:
        """NoGpuError if there is no GPU."""

    def read(self) -> GpuState: ...


class Nvml:
    """NVIDIA's management library. Needs the extra `gpu`."""

    def __init__(self) -> None:
        self._nvml: Any = None
        self._handles: list[Any] = []
        self._events: Any = None
        self._fault: str | None = None

    def open(self) -> None:
        try:
            self._nvml = nvml = importlib.import_module("pynvml")
        except ImportError as error:
            raise NoGpuError("the package nvidia-ml-py is not installed") from error
        try:
            nvml.nvmlInit()
            self._handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        except nvml.NVMLError as error:
            raise NoGpuError(str(error)) from error
        if not self._handles:
            raise NoGpuError("there is none")
        with contextlib.suppress(nvml.NVMLError):
            events = nvml.nvmlEventSetCreate()
            for handle in self._handles:
                nvml.nvmlDeviceRegisterEvents(handle, nvml.nvmlEventTypeXidCriticalError, events)
            self._events = events

    def read(self) -> GpuState:
        nvml = self._nvml
        busiest: float | None = None
        for index, handle in enumerate(self._handles):
            try:
                busiest = max(busiest or 0.0, nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100)
            except nvml.NVMLError_NotSupported:
                pass  # a GPU that is partitioned (MIG) has no utilisation of its own
            except nvml.NVMLError as error:
                return GpuState(fault=f"gpu {index}: {error}")
            with contextlib.suppress(nvml.NVMLError):
                if nvml.nvmlDeviceGetRemappedRows(handle)[3]:
                    return GpuState(fault=f"gpu {index}: memory rows could not be remapped")
        self._fault = self._fault or self._fatal_event()
        return GpuState(busiest, self._fault)

    def _fatal_event(self) -> str | None:
        nvml = self._nvml
        while self._events is not None:
            try:
                event = nvml.nvmlEventSetWait_v2(self._events, 0)
            except nvml.NVMLError_Timeout:
                return None
            except nvml.NVMLError:
                self._events = None
                return None
            if event.eventData in FATAL_XIDS:
                return f"gpu: XID {event.eventData}"
        return None


class GpuMonitor:
    """Polls the GPUs on a daemon thread, which cannot keep the process alive even if the driver hangs."""

    def __init__(
        self,
        gpus: Gpus,
        interval: float,
        *,
        deadline: float = DEADLINE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gpus = gpus
        self._interval = interval
        self._deadline = deadline
        self._clock = clock
        self._answered_at = clock()
        self._state = NO_GPU
        self._absent = False
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gpu", daemon=True)

    def start(self) -> None:
        self._answered_at = self._clock()
        self._thread.start()

    def close(self) -> None:
        """Stop polling. A call that hangs is left alone."""
        self._closed.set()

    def state(self) -> GpuState:
        """The last state, or a fault if the GPUs have not answered in time."""
        if not self._absent and self._clock() - self._answered_at > self._deadline + self._interval:
            return GpuState(fault="gpu: no answer")
        return self._state

    def _run(self) -> None:
        is_open = False
        while not self._closed.is_set():
            try:
                if not is_open:
                    self._gpus.open()
                    is_open = True
                state = self._gpus.read()
            except NoGpuError:
                self._absent = True
                return
            except Exception as error:  # the driver's wrapper raises arbitrary exceptions
                state = GpuState(fault=f"gpu: {error}")
            self._state = state
            self._answered_at = self._clock()
            self._closed.wait(self._interval)
