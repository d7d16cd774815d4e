"""Several groups of workers behind one coordinator, each with a whole model: the answers are one
worker's, and who loses one replica still has the other."""

import signal
import unittest

from processes import DEADLINE_SECONDS, wait_until
from service import Service, model_path, read_to_end

MODEL = model_path("smollm2")
ONE_THREAD = ["--threads", 1]
PROMPTS = [f"{i} lighthouses and {i * i} ships" for i in range(8)]


def request(i, max_tokens=60):
    return ["--prompt", PROMPTS[i], "--temperature", 0, "--max-tokens", max_tokens, "--ignore-eos"]


def replicas(service, name):
    return [replica[name] for replica in service.status()["replicas"]]


def wait_for_all_replicas(service):
    wait_until(lambda: all(replicas(service, "serving")), "all replicas to serve")


class ReplicaTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        """What one worker answers."""
        with Service(MODEL, worker_flags=ONE_THREAD) as service:
            cls.alone = [service.kvec("generate", *request(i)).stdout for i in range(8)]
            cls.long = [service.kvec("generate", *request(i, 300)).stdout for i in range(4)]

    def start_on_all(self, service, max_tokens):
        """Streams 0 … 3, of which every replica has some, and what was read of each."""
        processes = [service.start_kvec("generate", *request(i, max_tokens)) for i in range(4)]
        wait_until(lambda: sum(replicas(service, "num_requests_running")) == 4, "4 running requests")
        self.assertTrue(all(replicas(service, "num_requests_running")))
        return processes, [process.stdout.read(20) for process in processes]

    def check(self, processes, texts, expected):
        for process, text, whole in zip(processes, texts, expected):
            self.assertEqual(text + read_to_end(process), whole)

    def test_many_requests_at_a_time_get_one_workers_text(self):
        with Service(MODEL, worker_flags=ONE_THREAD, shape=(1, 1), replicas=2) as service:
            wait_for_all_replicas(service)
            processes = [service.start_kvec("generate", *request(i)) for i in range(8)]
            self.check(processes, [""] * 8, self.alone)
            workers = service.status()["workers"]
            self.assertEqual(sorted(worker["replica"] for worker in workers), [0, 1])
            # Each had its part of the work: a worker that has run nothing has taken no time.
            self.assertTrue(all(worker["last_step_ms"] > 0 for worker in workers))
            self.assertIn("replica 1 serves, 0 running", service.kvec("status").stdout)

    def test_replicas_of_several_workers_answer_alike(self):
        with Service(MODEL, worker_flags=ONE_THREAD, shape=(2, 1), replicas=2) as service:
            wait_for_all_replicas(service)
            alone = [service.kvec("generate", *request(i, 30)).stdout for i in range(4)]
            processes = [service.start_kvec("generate", *request(i, 30)) for i in range(4)]
            self.check(processes, [""] * 4, alone)

    def test_a_lost_replica_cuts_no_stream_and_the_other_takes_new_requests(self):
        with Service(MODEL, worker_flags=ONE_THREAD, shape=(1, 1), replicas=2) as service:
            wait_for_all_replicas(service)
            processes, texts = self.start_on_all(service, 300)
            service.kill_worker(0)
            wait_until(lambda: sorted(replicas(service, "serving")) == [False, True],
                       "the loss to be noticed")
            # At once: nobody has started another worker.
            self.assertEqual(service.kvec("generate", *request(7)).stdout, self.alone[7])
            service.start_worker()
            self.check(processes, texts, self.long)
            self.assertEqual(service.log_text().count("formed of 1 workers"), 3)

    def test_a_worker_that_leaves_lets_its_replicas_answers_end(self):
        with Service(MODEL, worker_flags=ONE_THREAD, shape=(1, 1), replicas=2) as service:
            wait_for_all_replicas(service)
            processes, texts = self.start_on_all(service, 300)
            leaver = service.workers.pop(0)
            leaver.send_signal(signal.SIGTERM)
            wait_until(lambda: sorted(replicas(service, "serving")) == [False, True],
                       "the worker to say that it leaves")
            self.assertEqual(service.kvec("generate", *request(7)).stdout, self.alone[7])
            self.check(processes, texts, self.long)
            self.assertEqual(leaver.wait(DEADLINE_SECONDS), 0)

    def test_a_coordinator_that_drains_lets_all_replicas_answers_end(self):
        with Service(MODEL, worker_flags=ONE_THREAD, shape=(1, 1), replicas=2) as service:
            wait_for_all_replicas(service)
            processes, texts = self.start_on_all(service, 300)
            service.coordinator.send_signal(signal.SIGTERM)
            self.check(processes, texts, self.long)
            self.assertEqual(service.coordinator.wait(DEADLINE_SECONDS), 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
