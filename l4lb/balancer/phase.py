"""Where a balancer is between its start and its end. The parts share one `Phase`; only `Intake` changes it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Phase:
    """`accepting` is off before the first client, during a pause and in a stop. `stopping` stays on once it is set."""

    accepting: bool = True
    stopping: bool = False

    @property
    def has_clients(self) -> bool:
        """Whether clients may be connected. Before that, no backend can have been left by one."""
        return self.accepting or self.stopping
