"""Several workers hold one model: the answers are one worker's, evictions too."""

import random
import unittest

import golden
from processes import wait_until
from service import Service, ids, model_path

MODEL = model_path("smollm2")
NUM_LAYERS = 30  # of SmolLM2-135M
ONE_THREAD = ["--threads", 1]
POLICIES = ["streaming", "snapkv", "pyramidkv", "adasnapkv", "kvec-paper", "kvec"]
PROMPT = ids(random.Random(7).choices(range(1000, 40000), k=700))


def answer(service, *arguments):
    return service.generate("--token-ids", PROMPT, "--temperature", 0, "--max-tokens", 16,
                            "--ignore-eos", "--logprobs", 5, *arguments)


def kept(usage):
    """What must be equal wherever the layers are: per layer budget, entries, tokens."""
    return [(layer["layer"], layer["budget"], layer["kept_entries"], layer["unique_tokens"])
            for layer in usage["layers"]]


class GroupTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        """What one worker answers."""
        with Service(MODEL, worker_flags=ONE_THREAD) as service:
            cls.full = answer(service)
            cls.evicted = {policy: answer(service, "--policy", policy, "--budget", 96)
                           for policy in POLICIES}

    def check_greedy(self, service):
        """Equal to the reference up to the first tie."""
        for case in golden.load("smollm2")[:4]:
            got = service.generate("--token-ids", ids(case["prompt_ids"]), "--temperature", 0,
                                   "--ignore-eos", "--max-tokens", len(case["greedy_ids"]))
            length = golden.comparable_length(case)
            self.assertEqual(got["token_ids"][:length], case["greedy_ids"][:length])

    def test_stages_change_no_bit(self):
        for pp in (2, 3):
            with self.subTest(pp=pp), Service(MODEL, worker_flags=ONE_THREAD,
                                              shape=(1, pp)) as service:
                stages = [worker["num_layers"] for worker in service.status()["workers"]]
                self.assertEqual((len(stages), sum(stages)), (pp, NUM_LAYERS))
                full = answer(service)
                self.assertEqual(full["token_ids"], self.full["token_ids"])
                self.assertEqual(full["logprobs"], self.full["logprobs"])
                for policy in POLICIES:
                    got = answer(service, "--policy", policy, "--budget", 96)
                    expected = self.evicted[policy]
                    self.assertEqual(got["token_ids"], expected["token_ids"], policy)
                    self.assertEqual(got["logprobs"], expected["logprobs"], policy)
                    self.assertEqual(kept(got["usage"]), kept(expected["usage"]), policy)
                    for name in ("coverage", "mean_layer_coverage", "evicted_tokens",
                                 "logical_kv_bytes", "kv_bytes"):
                        self.assertEqual(got["usage"][name], expected["usage"][name], name)

    def test_ranks_answer_like_one_worker(self):
        for tp, pp in ((2, 1), (3, 1), (2, 2)):
            with self.subTest(tp=tp, pp=pp), Service(MODEL, worker_flags=ONE_THREAD,
                                                     shape=(tp, pp)) as service:
                self.check_greedy(service)
                for policy in POLICIES:
                    usage = answer(service, "--policy", policy, "--budget", 96)["usage"]
                    expected = self.evicted[policy]["usage"]
                    self.assertEqual([layer["layer"] for layer in usage["layers"]],
                                     list(range(NUM_LAYERS)))
                    for ours, one in zip(usage["layers"], expected["layers"]):
                        self.assertEqual(ours["budget"], one["budget"], policy)
                        self.assertEqual(ours["kept_entries"], one["kept_entries"], policy)
                        self.assertAlmostEqual(ours["attention_mass"], one["attention_mass"],
                                               delta=0.02, msg=policy)
                        self.assertAlmostEqual(ours["unique_tokens"], one["unique_tokens"],
                                               delta=7, msg=policy)
                    for name in ("evicted_tokens", "logical_kv_bytes"):
                        self.assertEqual(usage[name], expected[name], policy)
                    self.assertAlmostEqual(usage["coverage"], expected["coverage"], delta=0.02)
                    if policy != "streaming":
                        self.assertGreater(usage["exchanged_bytes"], 0)

    def test_the_workers_memory_decides_the_shape(self):
        """A worker's place is its replica and its stage."""
        for memory_bytes, places in ((1 << 30, [(0, 0), (1, 0)]), (600 << 20, [(0, 0), (0, 1)])):
            with self.subTest(memory_bytes=memory_bytes), Service(
                    MODEL, coordinator_flags=["--parallel", "auto"], num_workers=2,
                    worker_flags=[*ONE_THREAD, "--memory-bytes", memory_bytes]) as service:
                self.check_greedy(service)
                wait_until(lambda: all(worker["state"] == "ready"
                                       for worker in service.status()["workers"]), "both workers")
                self.assertEqual(sorted((worker["replica"], worker["stage"])
                                        for worker in service.status()["workers"]), places)

    def test_many_requests_at_a_time_get_the_answers_they_get_alone(self):
        prompts = [f"{i} lighthouses and {i * i} ships" for i in range(6)]
        for shape in ((2, 1), (1, 2), (2, 2)):
            with self.subTest(shape=shape), Service(MODEL, worker_flags=ONE_THREAD,
                                                    shape=shape) as service:
                def arguments(i):
                    return ["--prompt", prompts[i], "--seed", i, "--temperature", 0.9,
                            "--max-tokens", 40, "--ignore-eos"]
                alone = [service.kvec("generate", *arguments(i)).stdout for i in range(6)]
                processes = [service.start_kvec("generate", *arguments(i)) for i in range(6)]
                together = []
                for process in processes:
                    together.append(process.stdout.read())
                    process.stdout.close()
                    self.assertEqual(process.wait(), 0)
                self.assertEqual(together, alone)
                self.assertEqual(service.status()["num_requests_running"], 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
