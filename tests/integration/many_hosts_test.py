"""Each worker on a host of its own (network namespaces): they talk by TCP, and a network that is slow,
lossy or cut costs time but no token."""

import sys
import time
import unittest

from many_hosts import Network
from processes import wait_until
from service import SKIPPED, Service, model_path, read_to_end

MODEL = model_path("smollm2")
# The namespaces share this machine's memory, which hosts would not.
BY_TCP = ["--threads", 1, "--comm-transport", "tcp"]
REQUEST = ["--prompt", "The history of the lighthouse begins", "--max-tokens", 100,
           "--ignore-eos", "--temperature", 0.8, "--seed", 11]
SHAPES = [(2, 1), (1, 2)]


class ManyHostsTest(unittest.TestCase):

    def test_the_answers_are_those_of_shared_memory(self):
        for shape in SHAPES:
            with self.subTest(shape=shape):
                with Service(MODEL, worker_flags=["--threads", 1], shape=shape) as service:
                    expected = service.kvec("generate", *REQUEST).stdout
                with Network(3) as network, Service(MODEL, worker_flags=BY_TCP, shape=shape,
                                                    network=network) as service:
                    self.assertEqual(service.kvec("generate", *REQUEST).stdout, expected)

    def test_delay_and_loss_cost_time_only(self):
        for shape in SHAPES:
            with self.subTest(shape=shape), Network(3) as network, Service(
                    MODEL, worker_flags=BY_TCP, shape=shape, network=network) as service:
                expected = service.kvec("generate", *REQUEST).stdout
                if not network.disturb("delay", "1ms", "loss", "1%"):
                    self.skipTest("this kernel has no netem")
                self.assertEqual(service.kvec("generate", *REQUEST).stdout, expected)

    def test_a_link_that_comes_and_goes_costs_time_only(self):
        for shape in SHAPES:
            with self.subTest(shape=shape), Network(3) as network, Service(
                    MODEL, worker_flags=BY_TCP, shape=shape, network=network) as service:
                expected = service.kvec("generate", *REQUEST).stdout
                process = service.start_kvec("generate", *REQUEST)
                text = process.stdout.read(40)
                for _ in range(4):  # shorter than the heartbeats' timeout
                    network.unplug(2)
                    time.sleep(0.3)
                    network.plug(2)
                    time.sleep(0.1)
                self.assertEqual(text + read_to_end(process), expected)
                self.assertEqual({worker["state"] for worker in service.status()["workers"]},
                                 {"ready"}, "nobody was given up")

    def test_a_partition_is_a_lost_worker(self):
        for shape in SHAPES:
            with self.subTest(shape=shape), Network(4) as network, Service(
                    MODEL, coordinator_flags=["--heartbeat-seconds", 3], worker_flags=BY_TCP,
                    shape=shape, network=network) as service:
                expected = service.kvec("generate", *REQUEST).stdout
                service.start_worker()
                wait_until(lambda: len(service.status()["workers"]) == 3, "the spare to attach")
                process = service.start_kvec("generate", *REQUEST)
                text = process.stdout.read(40)
                network.unplug(1)
                self.assertEqual(text + read_to_end(process), expected)
                # It comes back as a spare.
                network.plug(1)
                wait_until(lambda: sorted(worker["state"] for worker in
                                          service.status()["workers"]) ==
                           ["attached", "ready", "ready"], "the lost worker to attach again")


if __name__ == "__main__":
    if not Network.is_possible():
        print("skipped: network namespaces can't be made here; run it as root")
        sys.exit(SKIPPED)
    unittest.main(verbosity=2)
