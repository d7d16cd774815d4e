"""A coordinator and a worker under load, and what they use: memory, threads, file descriptors, pages."""

import argparse
import dataclasses
import pathlib
import re
import socket
import subprocess
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / "build/release/bin"
READY = re.compile(r"ready: inference (\S+) cluster (\S+)")
DEADLINE_SECONDS = 120


def argument_parser(description):
    """With what every load needs: programs, model, threads."""
    parser = argparse.ArgumentParser(description=description,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", default=PROGRAMS, metavar="DIR")
    parser.add_argument("--model", required=True, metavar="FILE")
    parser.add_argument("--threads", type=int, default=2, help="of the worker")
    return parser


@dataclasses.dataclass(frozen=True)
class Use:
    """Of one process."""

    resident_bytes: int
    threads: int
    descriptors: int


def use_of(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    def field(name):
        return int(re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE).group(1))
    return Use(1024 * field("VmRSS"), field("Threads"),
               len(list(pathlib.Path(f"/proc/{pid}/fd").iterdir())))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Service:
    """with Service(programs, model) as service: …"""

    def __init__(self, programs, model, threads=2, coordinator_flags=(), worker_flags=()):
        self._programs = pathlib.Path(programs)
        self._model = model
        self._metrics_port = free_port()
        self._coordinator_flags = list(coordinator_flags)
        self._worker_flags = ["--threads", str(threads), *worker_flags]
        self.worker = None

    def __enter__(self):
        self.coordinator = subprocess.Popen(
            [self._programs / "kvec-coordinator", "--model", self._model, "--listen", "127.0.0.1:0",
             "--cluster-listen", "127.0.0.1:0", "--metrics-listen", f"127.0.0.1:{self._metrics_port}",
             "--log-level", "error", *self._coordinator_flags], stdout=subprocess.PIPE, text=True)
        ready = READY.search(self.coordinator.stdout.readline())
        if ready is None:
            self.coordinator.wait()
            raise RuntimeError("kvec-coordinator: no ready line")
        self.target, self._cluster = ready.groups()
        self.start_worker()
        return self

    def __exit__(self, *error):
        for process in (self.worker, self.coordinator):
            process.terminate()
        for process in (self.worker, self.coordinator):
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.coordinator.stdout.close()

    def start_worker(self):
        self.worker = subprocess.Popen(
            [self._programs / "kvec-worker", "--model", self._model, "--coordinator", self._cluster,
             "--log-level", "error", *self._worker_flags])
        deadline = time.monotonic() + DEADLINE_SECONDS
        while self.metrics()["kvec_num_workers_ready"] < 1:
            if time.monotonic() > deadline or self.worker.poll() is not None:
                raise RuntimeError("kvec-worker: never ready")
            time.sleep(0.1)

    def kill_worker(self):
        """As a crash does it."""
        self.worker.kill()
        self.worker.wait()

    def metrics(self):
        """Sums over labels, by name; histograms are left out."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._metrics_port}/metrics", timeout=60) as page:
            lines = page.read().decode().splitlines()
        sums = {}
        for line in lines:
            name = re.match(r"\w+", line)
            if name is not None and not line.startswith("#"):
                sums[name[0]] = sums.get(name[0], 0.0) + float(line.rsplit(" ", 1)[1])
        return sums
