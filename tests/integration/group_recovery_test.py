"""A worker of a group dies or hangs: the others wait no longer, the group forms again, and every
stream goes on with the text of the undisturbed run."""

import random
import signal
import time
import unittest

from processes import wait_until
from service import Service, ids, model_path, read_to_end

MODEL = model_path("smollm2")
ONE_THREAD = ["--threads", 1]
SHAPES = [(2, 1), (1, 2), (2, 2)]
REQUEST = ["--prompt", "The history of the lighthouse begins", "--max-tokens", 200,
           "--ignore-eos", "--temperature", 0.8, "--seed", 11]
# Prefilled in several Steps, then evicted from.
LONG = ["--token-ids", ids(random.Random(3).choices(range(1000, 40000), k=1500)), "--policy",
        "kvec", "--budget", 128, "--max-tokens", 40, "--ignore-eos", "--temperature", 0]


def members(service):
    return [worker for worker in service.status()["workers"] if worker["state"] != "lost"]


class GroupRecoveryTest(unittest.TestCase):

    def test_the_stream_goes_on_whichever_worker_is_killed(self):
        for shape in SHAPES:
            with self.subTest(shape=shape), Service(MODEL, worker_flags=ONE_THREAD,
                                                    shape=shape) as service:
                undisturbed = service.kvec("generate", *REQUEST).stdout
                for _ in range(service.num_workers):
                    process = service.start_kvec("generate", *REQUEST)
                    text = process.stdout.read(40)
                    service.kill_worker()  # the longest there: each one in turn
                    service.start_worker()
                    self.assertEqual(text + read_to_end(process), undisturbed)

    def test_a_kill_at_any_moment_of_a_prefill_and_an_eviction_loses_nothing(self):
        chance = random.Random(5)
        for shape in SHAPES:
            with self.subTest(shape=shape), Service(MODEL, worker_flags=ONE_THREAD,
                                                    shape=shape) as service:
                begin = time.monotonic()
                undisturbed = service.kvec("generate", *LONG).stdout
                duration = time.monotonic() - begin
                for _ in range(4):
                    service.wait_ready()
                    process = service.start_kvec("generate", *LONG)
                    time.sleep(chance.random() * duration)
                    service.kill_worker(chance.randrange(service.num_workers))
                    service.start_worker()
                    self.assertEqual(read_to_end(process), undisturbed)

    def test_kills_while_the_group_forms_only_delay_it(self):
        with Service(MODEL, worker_flags=ONE_THREAD, shape=(2, 2)) as service:
            undisturbed = service.kvec("generate", *REQUEST).stdout
            process = service.start_kvec("generate", *REQUEST)
            text = process.stdout.read(40)
            chance = random.Random(6)
            for _ in range(6):
                service.kill_worker(chance.randrange(4))
                service.start_worker()
                time.sleep(chance.random() * 0.2)  # less than it takes to form
            self.assertEqual(text + read_to_end(process), undisturbed)

    def test_the_others_are_free_within_two_seconds_of_a_kill(self):
        with Service(MODEL, worker_flags=ONE_THREAD, shape=(2, 2)) as service:
            process = service.start_kvec("generate", *REQUEST, "--max-tokens", 4000)
            process.stdout.read(40)
            service.kill_worker(0)
            begin = time.monotonic()
            wait_until(lambda: [worker["state"] for worker in members(service)] == 3 * ["attached"],
                       "the others to leave the group")
            seconds = time.monotonic() - begin
            print(f"three workers had left the group {seconds:.2f} s after the kill")
            self.assertLess(seconds, 2)
            process.kill()
            process.wait()
            process.stdout.close()

    def test_a_hung_worker_is_found_and_a_spare_takes_its_place(self):
        for shape in ((2, 1), (1, 2)):
            with self.subTest(shape=shape), Service(
                    MODEL, coordinator_flags=["--heartbeat-seconds", 3],
                    worker_flags=ONE_THREAD, shape=shape) as service:
                undisturbed = service.kvec("generate", *REQUEST).stdout
                for index in (0, 1):
                    spare = service.start_worker()
                    wait_until(lambda: len(members(service)) == 3, "the spare to attach")
                    process = service.start_kvec("generate", *REQUEST)
                    text = process.stdout.read(40)
                    hung = service.workers[index]
                    hung.send_signal(signal.SIGSTOP)
                    self.assertEqual(text + read_to_end(process), undisturbed)
                    self.assertEqual([worker["state"] for worker in members(service)],
                                     ["ready", "ready"], "only the hung one is given up")
                    service.workers.remove(hung)
                    hung.kill()
                    hung.wait()
                    self.assertIsNone(spare.poll())


if __name__ == "__main__":
    unittest.main(verbosity=2)
