"""Cancelling, draining and ending: pages come back, streams are finished, no process stays."""

import signal
import subprocess
import time
import unittest

from processes import children, is_alive, wait_until
from service import DEADLINE_SECONDS, Service, model_path, read_to_end, start

MODEL = model_path("smollm2")
LONG = ["--prompt", "A very long story:", "--max-tokens", 4000, "--ignore-eos"]
LONGER = ["--prompt", "A story:", "--max-tokens", 600, "--ignore-eos", "--temperature", 0]
SHORT = ["--prompt", "A story:", "--max-tokens", 200, "--ignore-eos", "--temperature", 0]


def states(service):
    return [worker["state"] for worker in service.status()["workers"]]


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

    def test_a_worker_that_is_to_end_lets_running_answers_end_first(self):
        for shape in ((1, 1), (1, 2)):
            with self.subTest(shape=shape), Service(MODEL, shape=shape,
                                                    worker_flags=["--threads", 1]) as service:
                undisturbed = service.kvec("generate", *SHORT).stdout
                process = service.start_kvec("generate", *SHORT)
                text = process.stdout.read(20)
                leaver = service.workers.pop()
                leaver.send_signal(signal.SIGTERM)
                wait_until(lambda: "draining" in states(service), "the worker to say that it leaves")
                late = service.start_kvec("generate", *SHORT)
                self.assertEqual(text + read_to_end(process), undisturbed)
                self.assertEqual(leaver.wait(DEADLINE_SECONDS), 0)
                # Whoever came meanwhile waits for another worker.
                wait_until(lambda: not service.status()["serving"], "the group to be gone")
                service.start_worker()
                self.assertEqual(read_to_end(late), undisturbed)

    def test_a_spare_takes_over_from_a_worker_that_is_to_end(self):
        with Service(MODEL, worker_flags=["--threads", 1]) as service:
            undisturbed = service.kvec("generate", *SHORT).stdout
            service.start_worker()
            wait_until(lambda: "attached" in states(service), "the spare to attach")
            process = service.start_kvec("generate", *SHORT)
            text = process.stdout.read(20)
            leaver = service.workers.pop(0)
            leaver.send_signal(signal.SIGTERM)
            self.assertEqual(leaver.wait(DEADLINE_SECONDS), 0)
            self.assertEqual(text + read_to_end(process), undisturbed)

    def test_a_worker_whose_grace_is_over_ends_and_the_answer_goes_on_elsewhere(self):
        with Service(MODEL, worker_flags=["--threads", 1, "--drain-seconds", 0.5]) as service:
            undisturbed = service.kvec("generate", *LONGER).stdout
            process = service.start_kvec("generate", *LONGER)
            text = process.stdout.read(20)
            leaver = service.workers.pop()
            leaver.send_signal(signal.SIGTERM)
            self.assertEqual(leaver.wait(DEADLINE_SECONDS), 0)
            service.start_worker()
            self.assertEqual(text + read_to_end(process), undisturbed)

    def test_workers_attach_to_a_dead_coordinators_successor(self):
        for shape in ((1, 1), (2, 2)):
            with self.subTest(shape=shape), Service(MODEL, shape=shape,
                                                    worker_flags=["--threads", 1]) as service:
                undisturbed = service.kvec("generate", *SHORT).stdout
                process = start("kvec", "generate", "--target", service.target, *LONG,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)
                process.stdout.read(20)
                service.kill_coordinator()
                _, error = process.communicate(timeout=DEADLINE_SECONDS)
                self.assertEqual(process.returncode, 1)
                self.assertIn("UNAVAILABLE", error)
                service.start_coordinator(service.target, service.cluster)
                begin = time.monotonic()
                service.wait_ready()
                seconds = time.monotonic() - begin
                print(f"{shape}: the group serves {seconds:.2f} s after the successor listens")
                self.assertLess(seconds, 5)
                self.assertEqual(service.kvec("generate", *SHORT).stdout, undisturbed)

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
