"""Prompts whose cache never exceeds a bound, and outputs that stay within the budget, through the
real processes."""

import random
import unittest

from service import Service, ids, model_path

MODEL = model_path("smollm2")
HEADS = 30 * 3  # of all layers of SmolLM2-135M
ENTRY_BYTES = 2 * 2 * 64  # K and V in 16 bits
ENTRIES_PER_PAGE = 16
BUDGET, BOUND, INTERVAL = 128, 512, 32
PROMPT = ids(random.Random(3).choices(range(1000, 40000), k=8000))


def bytes_of(entries):
    """Of pages with so many entries per head: each head may begin one."""
    return (entries * HEADS + ENTRIES_PER_PAGE * HEADS) * ENTRY_BYTES


def generate(service, *arguments):
    return service.generate("--token-ids", PROMPT, "--temperature", 0, "--ignore-eos",
                            "--policy", "kvec", "--budget", BUDGET, "--prefill-bound", BOUND,
                            *arguments)


class EvictionScheduleTest(unittest.TestCase):

    def test_a_long_prompt_runs_in_an_arena_of_its_bound(self):
        pages = HEADS * (BOUND // ENTRIES_PER_PAGE + 2)  # 8000 tokens would need 500 per head
        with Service(MODEL, worker_flags=["--kv-pages", pages]) as service:
            usage = generate(service, "--max-tokens", 4)["usage"]
            self.assertEqual(usage["prompt_tokens"], 8000)
            self.assertEqual(usage["preemptions"], 0)
            self.assertLessEqual(usage["peak_kv_bytes"], bytes_of(BOUND))
            self.assertAlmostEqual(usage["evicted_tokens"], 8000 - BUDGET, delta=1)
            self.assertEqual(service.used_pages(), 0)

    def test_a_long_output_stays_within_the_budget(self):
        with Service(MODEL) as service:
            answers = [generate(service, "--decode-interval", INTERVAL, "--max-tokens", 190)
                       for _ in range(2)]
            self.assertEqual(answers[0]["token_ids"], answers[1]["token_ids"])
            usage = answers[0]["usage"]
            self.assertLessEqual(usage["kv_bytes"], bytes_of(BUDGET + INTERVAL))
            # 189 are fed: the last eviction is after 160.
            self.assertAlmostEqual(usage["evicted_tokens"], 8160 - BUDGET, delta=1)

    def test_a_bound_near_the_budget_is_refused(self):
        with Service(MODEL) as service:
            refused = service.kvec("generate", "--prompt", "Hello", "--policy", "kvec", "--budget",
                                   BUDGET, "--prefill-bound", BUDGET + 10, exit_code=1)
            self.assertIn("cache.prefill_bound_tokens: 138", refused.stderr)


if __name__ == "__main__":
    unittest.main()
