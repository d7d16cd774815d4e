"""Medians, ratios and the table of a comparison."""

import collections
import dataclasses
import statistics

import cpu_pressure
import workload

MIN_CLEAN_RUNS = 3


@dataclasses.dataclass(frozen=True)
class Run:
    engine: str
    point: workload.Point
    round: int
    tokens_per_second: float
    disturbance: cpu_pressure.Disturbance


@dataclasses.dataclass(frozen=True)
class Summary:
    median: float
    low: float
    high: float
    num_clean: int
    num_runs: int

    @property
    def is_disturbed(self) -> bool:
        return self.num_clean < min(MIN_CLEAN_RUNS, self.num_runs)


def summarize(runs: list[Run], max_pressure: float) -> Summary:
    """Over the undisturbed runs; over all where fewer than MIN_CLEAN_RUNS are undisturbed."""
    clean = [run for run in runs if not run.disturbance.exceeds(max_pressure)]
    enough = len(clean) >= min(MIN_CLEAN_RUNS, len(runs))
    rates = [run.tokens_per_second for run in (clean if enough else runs)]
    return Summary(statistics.median(rates), min(rates), max(rates), len(clean), len(runs))


class Report:
    def __init__(self, ours: str, engines: list[str], runs: list[Run], max_pressure: float):
        self._ours = ours
        self._engines = engines
        self._runs = runs
        self._max_pressure = max_pressure
        by_cell = collections.defaultdict(list)
        for run in runs:
            by_cell[run.point, run.engine].append(run)
        self._cells = {cell: summarize(rs, max_pressure) for cell, rs in by_cell.items()}
        self._points = list(dict.fromkeys(run.point for run in runs))

    def best_peer(self, point: workload.Point) -> str | None:
        peers = [e for e in self._engines if e != self._ours and (point, e) in self._cells]
        return max(peers, key=lambda peer: self._cells[point, peer].median, default=None)

    def ratio(self, point: workload.Point, peer: str) -> float | None:
        if (point, self._ours) not in self._cells or (point, peer) not in self._cells:
            return None
        return self._cells[point, self._ours].median / self._cells[point, peer].median

    def markdown(self) -> str:
        header = ["tokens/s", *self._engines, "ours / best peer", "wanted"]
        lines = ["| " + " | ".join(header) + " |", "| --- " * len(header) + "|"]
        for point in self._points:
            cells = [self._cell_text(point, engine) for engine in self._engines]
            row = [point.title, *cells, self._ratio_text(point), f"{point.wanted_ratio}×"]
            lines.append("| " + " | ".join(row) + " |")
        lines.append("")
        lines.append(
            "Medians with least and greatest. \\*: fewer than "
            f"{MIN_CLEAN_RUNS} runs below {self._max_pressure:.0%} CPU pressure from other "
            "processes, so all runs count; otherwise only those below."
        )
        return "\n".join(lines)

    def as_json(self) -> dict:
        return {
            "points": [self._point_json(point) for point in self._points],
            "runs": [
                {
                    "point": run.point.key,
                    "engine": run.engine,
                    "round": run.round,
                    "tokens_per_second": run.tokens_per_second,
                    "cpu_pressure": run.disturbance.pressure,
                    "foreign_cpu": run.disturbance.foreign,
                }
                for run in self._runs
            ],
        }

    def _cell_text(self, point: workload.Point, engine: str) -> str:
        summary = self._cells.get((point, engine))
        if summary is None:
            return "failed"
        mark = "\\*" if summary.is_disturbed else ""
        return f"{summary.median:.1f}{mark} ({summary.low:.1f}–{summary.high:.1f})"

    def _ratio_text(self, point: workload.Point) -> str:
        peer = self.best_peer(point)
        ratio = self.ratio(point, peer) if peer else None
        return "–" if ratio is None else f"{ratio:.2f}× ({peer})"

    def _point_json(self, point: workload.Point) -> dict:
        engines = {}
        for engine in self._engines:
            if summary := self._cells.get((point, engine)):
                engines[engine] = dataclasses.asdict(summary) | {
                    "ours_to_this": self.ratio(point, engine)
                }
        return {
            "point": point.key,
            "best_peer": self.best_peer(point),
            "wanted_ratio": point.wanted_ratio,
            "engines": engines,
        }
