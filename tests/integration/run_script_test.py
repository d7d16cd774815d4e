"""deploy/local/run.sh keeps its contract, with programs that are built already."""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import unittest

from processes import DEADLINE_SECONDS, children, is_alive, wait_until
from service import BIN, model_path

MODEL = model_path("smollm2")
SCRIPTS = pathlib.Path(__file__).parents[2] / "deploy/local"

# A checkout whose build has nothing to do.
checkout = tempfile.TemporaryDirectory()
scripts = pathlib.Path(checkout.name) / "deploy/local"
shutil.copytree(SCRIPTS, scripts)
(scripts / "build.sh").write_text("#!/bin/bash\n")
(pathlib.Path(checkout.name) / "build/release").mkdir(parents=True)
(pathlib.Path(checkout.name) / "build/release/bin").symlink_to(BIN)


def start_run(*arguments):
    """Starts run.sh; it dies with this process, however that ends."""
    return subprocess.Popen(
        ["setpriv", "--pdeathsig", "TERM", scripts / "run.sh", *map(str, arguments)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for_child(run_process, name, other_than=None):
    """The id of run.sh's child of this name; fails at once when run.sh ends."""
    def find():
        if run_process.poll() is not None:
            raise AssertionError(f"run.sh ended: {run_process.stderr.read()}")
        return [pid for pid in children(run_process.pid, name) if pid != other_than]

    pid, = wait_until(find, name)
    return pid


def run(*arguments):
    process = start_run(*arguments)
    out, err = process.communicate(timeout=10 * DEADLINE_SECONDS)
    return process.returncode, out, err


class RunScriptTest(unittest.TestCase):

    def test_answers_a_prompt_and_stops_everything(self):
        code, out, err = run("--model", MODEL, "--prompt", "Hello!")
        self.assertEqual(code, 0, err)
        self.assertNotEqual(out.strip(), "")

    def test_explains_wrong_usage(self):
        for arguments in (["--fly"], ["--workers"], ["--workers", "0"], ["--port", "70000"],
                          ["--parallel", "2x2"], ["--parallel", "tp=2,pp=2", "--workers", "3"]):
            code, _, err = run(*arguments)
            self.assertEqual(code, 2, arguments)
            self.assertIn("run.sh:", err)

    def test_fails_with_a_message_on_a_bad_model(self):
        code, _, err = run("--model", "/nonexistent.gguf")
        self.assertEqual((code, "/nonexistent.gguf" in err), (1, True), err)
        with tempfile.NamedTemporaryFile(suffix=".gguf") as bad:
            bad.write(pathlib.Path(MODEL).read_bytes()[:5000])
            bad.flush()
            code, _, err = run("--model", bad.name)
            self.assertEqual(code, 1, err)
            self.assertIn("kvec-coordinator:", err)

    def test_keep_serves_restarts_a_dead_worker_and_ends_on_sigterm(self):
        port = free_port()
        process = start_run("--model", MODEL, "--keep", "--port", port)
        target = f"127.0.0.1:{port}"
        answer = [BIN / "kvec", "generate", "--target", target, "--prompt", "Hello",
                  "--max-tokens", "4"]
        wait_ready = [BIN / "kvec", "status", "--target", target, "--wait-ready",
                      str(DEADLINE_SECONDS)]
        subprocess.run(wait_ready, check=True, stdout=subprocess.DEVNULL)
        subprocess.run(answer, check=True, stdout=subprocess.DEVNULL)

        worker = wait_for_child(process, "kvec-worker")
        self.assertEqual(os.getsid(worker), os.getsid(process.pid))
        os.kill(worker, signal.SIGKILL)
        second = wait_for_child(process, "kvec-worker", other_than=worker)
        subprocess.run(wait_ready, check=True, stdout=subprocess.DEVNULL)
        subprocess.run(answer, check=True, stdout=subprocess.DEVNULL)

        coordinator = wait_for_child(process, "kvec-coordinator")
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=DEADLINE_SECONDS)
        self.assertEqual(process.returncode, 0, err)
        self.assertFalse(is_alive(second) or is_alive(coordinator))

    def test_keep_serves_a_group_and_restarts_its_dead_worker(self):
        port = free_port()
        process = start_run("--model", MODEL, "--keep", "--port", port, "--parallel", "tp=2,pp=2")
        target = f"127.0.0.1:{port}"
        answer = [BIN / "kvec", "generate", "--target", target, "--prompt", "Hello",
                  "--max-tokens", "4", "--temperature", "0"]
        wait_ready = [BIN / "kvec", "status", "--target", target, "--wait-ready",
                      str(DEADLINE_SECONDS)]
        subprocess.run(wait_ready, check=True, stdout=subprocess.DEVNULL)
        first = subprocess.run(answer, check=True, capture_output=True).stdout
        workers = children(process.pid, "kvec-worker")
        self.assertEqual(len(workers), 4)
        os.kill(workers[2], signal.SIGKILL)
        wait_until(lambda: set(children(process.pid, "kvec-worker")) - set(workers),
                   "another worker")
        subprocess.run(wait_ready, check=True, stdout=subprocess.DEVNULL)
        second = subprocess.run(answer, check=True, capture_output=True).stdout
        self.assertEqual(first, second)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=DEADLINE_SECONDS)
        self.assertEqual(process.returncode, 0, err)
        self.assertFalse(any(map(is_alive, workers)))

    def test_a_kill_leaves_no_process(self):
        process = start_run("--model", MODEL, "--keep", "--port", free_port())
        worker = wait_for_child(process, "kvec-worker")
        coordinator = wait_for_child(process, "kvec-coordinator")
        process.kill()
        process.communicate()
        for pid in (worker, coordinator):
            wait_until(lambda pid=pid: not is_alive(pid), f"process {pid} to end")


if __name__ == "__main__":
    unittest.main(verbosity=2)
