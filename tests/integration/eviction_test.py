"""Every cache policy through the real processes: what it keeps, and what it gives back."""

import json
import math
import random
import unittest

from processes import wait_until
from service import Service, ids, model_path

MODEL = model_path("smollm2")
NUM_LAYERS, NUM_KV_HEADS = 30, 3  # of SmolLM2-135M
ENTRIES_PER_PAGE = 16
POLICIES = ["streaming", "snapkv", "pyramidkv", "adasnapkv", "kvec-paper", "kvec"]
PROMPT = ids(random.Random(7).choices(range(1000, 40000), k=700))
BUDGET = 96


def generate(service, *arguments):
    return service.generate("--token-ids", PROMPT, "--temperature", 0, "--max-tokens", 8,
                            "--ignore-eos", *arguments)


class EvictionTest(unittest.TestCase):

    def test_every_policy_keeps_its_budget_and_reports_it(self):
        with Service(MODEL) as service:
            for policy in POLICIES:
                with self.subTest(policy):
                    usage = generate(service, "--policy", policy, "--budget", BUDGET)["usage"]
                    self.assertEqual(len(usage["layers"]), NUM_LAYERS)
                    kept = sum(layer["kept_entries"] for layer in usage["layers"])
                    self.assertLessEqual(kept, NUM_LAYERS * NUM_KV_HEADS * BUDGET)
                    # Within rounding of pyramid budgets.
                    self.assertAlmostEqual(usage["evicted_tokens"], 700 - BUDGET, delta=1)
                    generated = 7 * NUM_LAYERS * NUM_KV_HEADS  # the last one is never fed
                    entry_bytes = usage["logical_kv_bytes"] / (kept + generated)
                    self.assertEqual(entry_bytes, 2 * 2 * 64)  # K and V in 16 bits
                    # At most a page's rest is lost in each head.
                    full_pages = usage["kv_bytes"] / entry_bytes
                    self.assertLess(full_pages,
                                    kept + generated +
                                    ENTRIES_PER_PAGE * NUM_LAYERS * NUM_KV_HEADS)
                    self.assertGreater(usage["coverage"], BUDGET / 700 - 1e-6)
                    self.assertLess(usage["mean_layer_coverage"], usage["coverage"] + 1e-9)
                    self.assertGreater(usage["eviction_ms"], 0)

    def test_budgets_by_curves_differ_from_layer_to_layer_and_fill_the_total(self):
        with Service(MODEL) as service:
            layers = generate(service, "--policy", "kvec", "--budget", BUDGET,
                              "--layer-allocation", "coverage")["usage"]["layers"]
            budgets = [layer["budget"] for layer in layers]
            uniform = NUM_KV_HEADS * (BUDGET - 16)
            self.assertEqual(sum(budgets), NUM_LAYERS * uniform)
            self.assertGreaterEqual(min(budgets), uniform // 2)
            self.assertGreater(len(set(budgets)), 2)
            windows = NUM_KV_HEADS * 16
            for layer in layers:
                self.assertEqual(layer["kept_entries"], layer["budget"] + windows)

    def test_a_second_reading_serves_what_is_asked_later(self):
        rng = random.Random(3)
        names = ["Ada", "Ben", "Cleo", "Dora", "Emil"]
        facts = [f"The code of {name} is {rng.randrange(1000, 9999)}." for name in names]
        filler = "The river runs past the old mill, and the grass is green in spring. " * 2
        context = "".join(f"{filler}{fact} " for fact in facts)
        with Service(MODEL) as service:
            right = {}
            for reading in ([], ["--second-reading"]):
                right[bool(reading)] = 0
                for name, fact in zip(names, facts):
                    session = f"{name}-{bool(reading)}"
                    service.generate("--prompt", context, "--max-tokens", 2, "--session", session,
                                     "--temperature", 0, "--budget", 64, *reading)
                    answer = service.generate("--prompt", f" The code of {name} is",
                                              "--session", session, "--continue-session",
                                              "--max-tokens", 6, "--temperature", 0)["text"]
                    right[bool(reading)] += fact.split()[-1].strip(".") in answer
            self.assertGreater(right[True], right[False], right)

    def test_full_and_a_large_budget_keep_everything(self):
        with Service(MODEL) as service:
            full = generate(service, "--logprobs", 0)
            large = generate(service, "--logprobs", 0, "--policy", "kvec", "--budget", 700)
            self.assertEqual(full["token_ids"], large["token_ids"])
            self.assertEqual(full["logprobs"], large["logprobs"])
            self.assertEqual(large["usage"]["coverage"], 1)
            self.assertEqual(large["usage"]["evicted_tokens"], 0)

    def test_what_is_evicted_is_free_at_once(self):
        with Service(MODEL) as service:
            process = service.start_kvec("generate", "--token-ids", PROMPT, "--max-tokens", 4000,
                                         "--ignore-eos", "--policy", "snapkv", "--budget", BUDGET)
            process.stdout.read(20)  # the prompt is evicted, the answer goes on
            pages = service.used_pages()
            heads = NUM_LAYERS * NUM_KV_HEADS
            self.assertLess(pages, heads * math.ceil(700 / ENTRIES_PER_PAGE))
            process.terminate()
            process.wait()
            process.stdout.close()
            wait_until(lambda: service.used_pages() == 0, "the pages to be freed")

    def test_a_small_arena_holds_more_evicted_requests_than_full_ones(self):
        # Room for 1.5 full prompts.
        pages = NUM_LAYERS * NUM_KV_HEADS * (math.ceil(700 / ENTRIES_PER_PAGE) * 3 // 2)
        with Service(MODEL, worker_flags=["--kv-pages", pages]) as service:
            alone = generate(service, "--policy", "kvec", "--budget", 64)["token_ids"]
            processes = [
                service.start_kvec("generate", "--token-ids", PROMPT, "--temperature", 0,
                                   "--max-tokens", 8, "--ignore-eos", "--policy", "kvec",
                                   "--budget", 64, "--json")
                for _ in range(4)
            ]
            for process in processes:
                answer = json.loads(process.stdout.read())
                process.stdout.close()
                self.assertEqual(process.wait(), 0)
                self.assertEqual(answer["token_ids"], alone)
                self.assertEqual(answer["usage"]["preemptions"], 0)

    def test_a_policy_without_a_budget_or_unknown_is_refused(self):
        with Service(MODEL) as service:
            refusals = {
                ("--policy", "kvec"): "cache.budget: missing",
                ("--policy", "h2o", "--budget", 64): "cache.policy",
                ("--policy", "kvec", "--budget", 16): "cache.budget: 16",
                ("--policy", "snapkv", "--budget", 64, "--head-allocation", "adaptive"):
                    "cache.head_allocation",
            }
            for arguments, message in refusals.items():
                with self.subTest(arguments):
                    error = service.kvec("generate", "--token-ids", PROMPT, *arguments,
                                         exit_code=1).stderr
                    self.assertIn("INVALID_ARGUMENT", error)
                    self.assertIn(message, error)


if __name__ == "__main__":
    unittest.main()
