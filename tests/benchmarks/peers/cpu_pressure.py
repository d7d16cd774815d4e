"""How much a measurement was disturbed by other processes."""

import dataclasses
import os
import resource
import time


@dataclasses.dataclass(frozen=True)
class Disturbance:
    """Shares of the measured time, 0 to 1; 0 where the system does not tell."""

    pressure: float  # some task waited for a processor: /proc/pressure/cpu
    foreign: float  # of all processors, used by processes that are not our children

    def exceeds(self, limit: float) -> bool:
        """Pressure without foreign load comes from the engine's own threads and says nothing
        against a measurement."""
        return self.pressure > limit and self.foreign > limit / 2


class CpuPressure:
    """Measures the time of a with-block, whose children must have been waited for at its end."""

    def __enter__(self):
        self._begin = self._now()
        return self

    def __exit__(self, *_):
        begin, end = self._begin, self._now()
        wall = max(end[0] - begin[0], 1e-9)
        waited, busy, own = (end[i] - begin[i] for i in (1, 2, 3))
        foreign = max(busy - own, 0) / (wall * os.cpu_count())
        self.disturbance = Disturbance(waited / wall, foreign)

    @staticmethod
    def _now() -> tuple[float, float, float, float]:
        """Seconds: wall clock, waiting tasks, busy processors, our children's processors."""
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        own = children.ru_utime + children.ru_stime
        return time.monotonic(), _waited_seconds(), _busy_seconds(), own


def _waited_seconds() -> float:
    try:
        with open("/proc/pressure/cpu", encoding="ascii") as file:
            some = file.readline()  # some avg10=… avg60=… avg300=… total=MICROSECONDS
        return int(some.rsplit("total=", 1)[1]) / 1e6
    except OSError:
        return 0.0


def _busy_seconds() -> float:
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _, _, irq, softirq, steal = map(int, file.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
