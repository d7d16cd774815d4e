"""Cancelling, draining and ending: pages come back, streams are finished, no process stays."""

import signal
import subprocess
import unittest

from processes import children, is_alive, wait_until
from service import DEADLINE_SECONDS, Service, model_path, read_to_end, start

MODEL = model_path("smollm2")
LONG = ["--prompt", "A very long story:", "--max-tokens", 4000, "--ignore-eos"]
SHORT = ["--prompt", "A story:", "--max-tokens", 200, "--ignore-eos", "--temperature", 0]


class LifecycleTest(unittest.TestCase):

    def test_whoever_cancels_or_vanishes_frees_its_pages(self):
        with Service(MODEL) as service:
            pages = service.used_pages()
            for signal_number in (signal.SIGINT, signal.SIGKILL):
                process = service.start_kvec("generate", *LONG)
                process.stdout.read(20)
                self.assertGreater(service.used_pages(), pages)
                process.send_signal(signal_number)
                self.assertNotEqual(process.wait(DEADLINE_SECONDS), 0)
                process.stdout.close()
                wait_until(lambda: service.used_pages() == pages, "the pages to be freed")
            self.assertEqual(service.status()["num_requests_running"], 0)

    def test_a_timeout_frees_its_pages(self):
        with Service(MODEL) as service:
            pages = service.used_pages()
            error = service.kvec("generate", *LONG, "--timeout", 1, exit_code=1).stderr
            self.assertIn("DEADLINE_EXCEEDED", error)
            wait_until(lambda: service.used_pages() == pages, "the pages to be freed")

    def test_sigterm_lets_running_answers_end(self):
        with Service(MODEL) as service:
            undisturbed = service.kvec("generate", *SHORT).stdout
            process = service.start_kvec("generate", *SHORT)
            text = process.stdout.read(20)
            service.coordinator.send_signal(signal.SIGTERM)
            self.assertEqual(text + read_to_end(process), undisturbed)
            self.assertEqual(service.coordinator.wait(DEADLINE_SECONDS), 0)

    def test_a_worker_ends_well_on_sigterm(self):
        with Service(MODEL) as service:
            worker = service.workers[0]
            worker.send_signal(signal.SIGTERM)
            self.assertEqual(worker.wait(DEADLINE_SECONDS), 0)
            wait_until(lambda: not service.status()["serving"], "the group to be gone")
            service.start_worker()
            service.wait_ready()
            self.assertNotEqual(service.generate(*SHORT)["text"], "")

    def test_a_killed_bench_leaves_no_process(self):
        process = start("kvec", "bench", "--model", MODEL, "--depth", 512, "--runs", 1000,
                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        servers = wait_until(
            lambda: found if len(found := children(process.pid)) == 2 else None,
            "bench to start its processes")
        process.kill()
        process.wait()
        for pid in servers:
            wait_until(lambda pid=pid: not is_alive(pid), f"process {pid} to end")


if __name__ == "__main__":
    unittest.main(verbosity=2)
