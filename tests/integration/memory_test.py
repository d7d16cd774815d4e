"""What a worker holds in memory beside its weights and its cache."""

import unittest

from processes import wait_until
from service import Service, model_path

MODEL = model_path("smollm2")


class MemoryTest(unittest.TestCase):

    def test_a_worker_needs_little_more_than_its_weights(self):
        with Service(MODEL) as service:
            service.generate("--prompt", "Hello", "--max-tokens", 20)
            # Heartbeats carry the numbers.
            worker = wait_until(
                lambda: w if (w := service.status()["workers"][0])["last_step_ms"] > 0 else None,
                "a heartbeat after a Step")
            # The few pages in use lie on two huge pages at most.
            limit = 1.3 * worker["weight_bytes"] + (4 << 20)
            self.assertLess(worker["resident_bytes"], limit)



if __name__ == "__main__":
    unittest.main()
