"""A worker dies in the middle of an answer: the stream goes on, and the text is the same."""

import unittest

from service import Service, model_path, read_to_end

MODEL = model_path("smollm2")
REQUEST = ["--prompt", "The history of the lighthouse begins", "--max-tokens", 300,
           "--ignore-eos", "--temperature", 0.8, "--seed", 11]


class RecoveryTest(unittest.TestCase):

    def interrupted_answer(self, service, num_kills):
        process = service.start_kvec("generate", *REQUEST)
        text = ""
        for _ in range(num_kills):
            text += process.stdout.read(40)
            self.assertNotEqual(text, "", "the stream ended before the worker was killed")
            service.kill_worker()
            service.start_worker()
        return text + read_to_end(process)

    def test_the_stream_goes_on_after_a_kill(self):
        with Service(MODEL) as service:
            undisturbed = service.kvec("generate", *REQUEST).stdout
            self.assertEqual(self.interrupted_answer(service, num_kills=1), undisturbed)
            self.assertEqual(self.interrupted_answer(service, num_kills=3), undisturbed)

    def test_a_waiting_worker_takes_over(self):
        with Service(MODEL) as service:
            undisturbed = service.kvec("generate", *REQUEST).stdout
            service.start_worker()
            process = service.start_kvec("generate", *REQUEST)
            text = process.stdout.read(40)
            service.kill_worker(index=0)
            self.assertEqual(text + read_to_end(process), undisturbed)


if __name__ == "__main__":
    unittest.main(verbosity=2)
