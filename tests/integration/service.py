"""kvec's real processes for a test: a coordinator and workers on free ports of 127.0.0.1."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import unittest
import urllib.request

from processes import DEADLINE_SECONDS

BIN = pathlib.Path(os.environ["KVEC_BIN"])
SKIPPED = 77  # the exit code that CTest takes for a skipped test


def model_path(name):
    """The file in KVEC_SMOLLM2_GGUF or KVEC_GEMMA3_GGUF; without it the whole program is skipped."""
    variable = f"KVEC_{name.upper()}_GGUF"
    path = os.environ.get(variable)
    if not path:
        print(f"skipped: {variable} is not set; deploy/local/fetch_model.sh {name} prints a path")
        sys.exit(SKIPPED)
    return path


def start(program, *arguments, host=None, env=None, **popen):
    """Starts one of our programs, in the network namespace `host` if given, with more variables in its
    environment. It dies with this process, however that ends."""
    command = ["setpriv", "--pdeathsig", "KILL"]
    if host is not None:
        command += ["ip", "netns", "exec", host]
    return subprocess.Popen([*command, str(BIN / program), *map(str, arguments)],
                            env={**os.environ, **(env or {})}, **popen)


class Service:
    """with Service(model) as service: service.generate("--prompt", "Hello")"""

    def __init__(self, model, coordinator_flags=(), worker_flags=(), num_workers=1, shape=None,
                 replicas=1, network=None, client_flags=(), env=None, worker_program="kvec-worker",
                 waits_until_ready=True, gpu_per_worker=False):
        """shape: tensor-parallel ranks and pipeline stages, (2, 1); as many workers make a group.
        replicas: groups of that shape.
        network: a many_hosts.Network whose first host has the coordinator and its clients, and each
        other one a worker; none: all on the loopback.
        client_flags: of every kvec command. env: more of coordinator's and workers' environment.
        gpu_per_worker: the n-th worker sees the machine's n-th GPU only."""
        self.model = model
        self.worker_program = worker_program
        self.waits_until_ready = waits_until_ready
        self.coordinator_flags = list(coordinator_flags)
        self.worker_flags = worker_flags
        self.client_flags = client_flags
        self.env = env
        self.gpu_per_worker = gpu_per_worker
        self.num_workers = num_workers
        if shape is not None:
            tp, pp = shape
            self.coordinator_flags += ["--parallel", f"dp={replicas},tp={tp},pp={pp}"]
            self.num_workers = replicas * tp * pp
        self.workers = []
        self.network = network
        self.host = network.hosts[0] if network else None
        self.address = network.address(0) if network else "127.0.0.1"
        if network:
            self.coordinator_flags.append("--insecure")

    def __enter__(self):
        self.log = tempfile.TemporaryFile()
        try:
            self.start_coordinator(f"{self.address}:0", f"{self.address}:0")
            for _ in range(self.num_workers):
                self.start_worker()
            if self.waits_until_ready:
                self.wait_ready()
        except BaseException:
            self.__exit__(AssertionError, None, None)
            raise
        return self

    def __exit__(self, error_type, error, traceback):
        for process in [*self.workers, self.coordinator]:
            process.send_signal(signal.SIGTERM)
        for process in [*self.workers, self.coordinator]:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.coordinator.stdout.close()
        if error_type not in (None, unittest.SkipTest):
            self.log.seek(0)
            print(self.log.read().decode(errors="replace")[-8000:], file=sys.stderr)
        self.log.close()

    def start_coordinator(self, listen, cluster_listen):
        self.coordinator = start(
            "kvec-coordinator", "--model", self.model, "--listen", listen,
            "--cluster-listen", cluster_listen, *self.coordinator_flags, host=self.host,
            env=self.env, stdout=subprocess.PIPE, stderr=self.log, text=True)
        words = self.coordinator.stdout.readline().split()
        if len(words) < 6:
            raise AssertionError(f"no ready line from the coordinator, but {words}")
        self.target, self.cluster = words[3], words[5]
        self.aliases = dict(zip(words[7::3], words[8::3]))  # name → address

    def kill_coordinator(self):
        """As a crash does it: SIGKILL."""
        self.coordinator.kill()
        self.coordinator.wait()
        self.coordinator.stdout.close()

    def start_worker(self):
        host = self.network.hosts[1 + len(self.workers)] if self.network else None
        env = self.env
        if self.gpu_per_worker:
            env = {**(env or {}), "CUDA_VISIBLE_DEVICES": str(len(self.workers))}
        worker = start(self.worker_program, "--model", self.model, "--coordinator", self.cluster,
                       *self.worker_flags, host=host, env=env, stdout=self.log, stderr=self.log)
        self.workers.append(worker)
        return worker

    def kill_worker(self, index=0):
        """As a crash does it: SIGKILL."""
        worker = self.workers.pop(index)
        worker.kill()
        worker.wait()

    def wait_ready(self):
        self.kvec("status", "--wait-ready", DEADLINE_SECONDS)

    def start_kvec(self, command, *arguments):
        """Its output is to be read from .stdout; communicate() would lose what a read() buffered."""
        return start("kvec", command, "--target", self.target, *self.client_flags, *arguments,
                     host=self.host,
                     stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.log, text=True)

    def kvec(self, command, *arguments, exit_code=0):
        """Runs kvec to its end and checks its exit code."""
        process = start("kvec", command, "--target", self.target, *self.client_flags, *arguments,
                        host=self.host, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                        text=True)
        out, err = process.communicate(timeout=10 * DEADLINE_SECONDS)
        if process.returncode != exit_code:
            raise AssertionError(
                f"kvec {command} ended with {process.returncode}, not {exit_code}: {err}")
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def generate(self, *arguments):
        """kvec generate's JSON object."""
        return json.loads(self.kvec("generate", *arguments, "--json").stdout)

    def read_json(self, process):
        """Of a start_kvec("generate", …, "--json")."""
        return json.loads(read_to_end(process))

    def status(self):
        return json.loads(self.kvec("status", "--json").stdout)

    def log_text(self):
        """What coordinator and workers have written so far."""
        # The processes write where this file's position is: it must stay.
        return os.pread(self.log.fileno(), 1 << 24, 0).decode(errors="replace")

    def metrics(self):
        """The values of /metrics by name and labels; needs --metrics-listen."""
        url = re.search(r"metrics at (http\S+)", self.log_text()).group(1)
        with urllib.request.urlopen(url, timeout=DEADLINE_SECONDS) as response:
            lines = response.read().decode().splitlines()
        return {name: float(value) for name, value in
                (line.rsplit(" ", 1) for line in lines if line and line[0] != "#")}

    def used_pages(self):
        return sum(worker["total_pages"] - worker["free_pages"]
                   for worker in self.status()["workers"])


def read_to_end(process):
    """The rest of the output of a process that must end with exit code 0."""
    text = process.stdout.read()
    process.stdout.close()
    code = process.wait(DEADLINE_SECONDS)
    if code != 0:
        raise AssertionError(f"{process.args[3]} ended with {code}")
    return text


def ids(token_ids):
    """Token ids as the command line takes them."""
    return ",".join(map(str, token_ids))
