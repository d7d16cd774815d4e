"""deploy/local/run.sh keeps its contract, with programs that are built already."""

import contextlib
import itertools
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
for script in ("build.sh", "fetch_cuda.sh", "install_dependencies.sh"):
    (scripts / script).write_text("#!/bin/bash\n")
(pathlib.Path(checkout.name) / "build/release").mkdir(parents=True)
programs_folder = pathlib.Path(checkout.name) / "build/release/bin"
programs_folder.symlink_to(BIN)


def start_run(*arguments, env=None):
    """Starts run.sh; it dies with this process, however that ends. env: more of its environment."""
    return subprocess.Popen(
        ["setpriv", "--pdeathsig", "TERM", scripts / "run.sh", *map(str, arguments)],
        env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@contextlib.contextmanager
def programs(scripts_by_name):
    """The checkout has these scripts in place of programs."""
    programs_folder.unlink()
    programs_folder.mkdir()
    try:
        for program in pathlib.Path(BIN).iterdir():
            (programs_folder / program.name).symlink_to(program)
        for name, text in scripts_by_name.items():
            (programs_folder / name).unlink()
            (programs_folder / name).write_text(text)
            (programs_folder / name).chmod(0o755)
        yield
    finally:
        shutil.rmtree(programs_folder)
        programs_folder.symlink_to(BIN)


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


def run(*arguments, env=None):
    process = start_run(*arguments, env=env)
    out, err = process.communicate(timeout=10 * DEADLINE_SECONDS)
    return process.returncode, out, err


class RunScriptTest(unittest.TestCase):

    def test_answers_a_prompt_and_stops_everything(self):
        code, out, err = run("--model", MODEL, "--prompt", "Hello!")
        self.assertEqual(code, 0, err)
        self.assertNotEqual(out.strip(), "")

    def test_explains_wrong_usage(self):
        for arguments in (["--fly"], ["--workers"], ["--workers", "0"], ["--port", "70000"],
                          ["--device", "tpu"], ["--parallel", "2x2"], ["--parallel", "tp=2,pp=2", "--workers", "3"]):
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

    def test_gives_each_worker_a_gpu(self):
        code, _, err = run("--model", MODEL, "--device", "cuda", "--workers", 3,
                           env={"CUDA_VISIBLE_DEVICES": "5,7"})
        self.assertEqual((code, "3 workers want a GPU each, and there are 2" in err), (1, True), err)
        with programs({"kvec-worker": '#!/bin/bash\necho "$CUDA_VISIBLE_DEVICES:$*"\nexec sleep 60\n'}):
            process = start_run("--model", MODEL, "--device", "cuda", "--workers", 2, "--keep",
                                "--port", free_port(), env={"CUDA_VISIBLE_DEVICES": "5,7"})
            lines = (line for line in process.stderr if "--device" in line)
            workers = sorted(itertools.islice(lines, 2))
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=DEADLINE_SECONDS)
        for worker, gpu in zip(workers, (5, 7)):
            self.assertRegex(worker, f"^{gpu}:.* --device cuda")

    @unittest.skipIf(shutil.which("nvidia-smi"), "this machine has a GPU")
    def test_says_that_there_is_no_gpu(self):
        code, _, err = run("--model", MODEL, "--device", "cuda")
        self.assertEqual(code, 1, err)
        self.assertRegex(err, "GPU|CUDA compiler")

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
