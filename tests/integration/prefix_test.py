"""Prompts that begin alike share their prefill, and nobody can tell from the answers."""

import json
import random
import unittest

from processes import wait_until
from service import Service, ids, model_path, read_to_end

MODEL = model_path("smollm2")
SYSTEM_TOKENS = 600
POLICIES = ("full", "streaming", "snapkv", "pyramidkv", "adasnapkv", "kvec-paper", "kvec")
BLOCK_TOKENS = 16


def prompt(question):
    """The same system prompt before every question."""
    tokens = random.Random(1).choices(range(1000, 20000), k=SYSTEM_TOKENS)
    return tokens + random.Random(100 + question).choices(range(1000, 20000), k=40)


def request(question, policy, *arguments):
    cache = ["--policy", policy] if policy == "full" else ["--policy", policy, "--budget", 128]
    return ["--token-ids", ids(prompt(question)), *cache, "--temperature", 0.8, "--seed", question,
            "--ignore-eos", "--max-tokens", 24, "--logprobs", 2, *arguments]


def outcome(answer):
    usage = answer["usage"]
    return (answer["token_ids"], answer["logprobs"], usage["coverage"], usage["evicted_tokens"],
            usage["kv_bytes"])


class PrefixTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        with Service(MODEL, coordinator_flags=["--prefix-caching", "off"]) as service:
            cls.cold = {}
            for i, policy in enumerate(POLICIES):
                answer = service.generate(*request(i, policy))
                assert answer["usage"]["cached_tokens"] == 0
                cls.cold[policy] = outcome(answer)

    def test_a_hit_changes_no_answer_of_any_policy(self):
        with Service(MODEL) as service:
            service.generate(*request(50, "kvec"))  # what was evicted from is kept whole
            for i, policy in enumerate(POLICIES):
                # First the system prompt is there, then the whole prompt; the last row is always
                # fed, and before an eviction the last 32.
                whole = SYSTEM_TOKENS + 40 - (1 if policy == "full" else 32)
                for there in (SYSTEM_TOKENS, whole):
                    answer = service.generate(*request(i, policy))
                    self.assertEqual(answer["usage"]["cached_tokens"],
                                     there // BLOCK_TOKENS * BLOCK_TOKENS, policy)
                    self.assertEqual(outcome(answer), self.cold[policy], policy)
            status = service.status()
            self.assertGreater(status["prefix_cache_hits"], 0)
            self.assertGreater(sum(w["cached_pages"] for w in status["workers"]), 0)
            self.assertEqual(service.used_pages(), 0, "what is cached can be had")

    def test_concurrent_requests_of_a_pool_that_is_short(self):
        # Two prompts fit, with little beside them.
        heads = 30 * 3
        flags = ["--kv-pages", 90 * heads]
        with Service(MODEL, worker_flags=flags) as service:
            processes = [service.start_kvec("generate", *request(i, policy), "--json")
                         for i, policy in enumerate(POLICIES)]
            for process, policy in zip(processes, POLICIES):
                answer = json.loads(read_to_end(process))
                self.assertEqual(outcome(answer), self.cold[policy], policy)
            wait_until(lambda: service.used_pages() == 0, "free pages")

    def test_choices_and_scores_of_a_shared_prompt(self):
        with Service(MODEL) as service:
            one = service.generate(*request(0, "full"))
            two = service.generate(*request(0, "full", "--n", 2))
            self.assertGreater(two["usage"]["cached_tokens"], 0)
            self.assertEqual(two["choices"][0]["token_ids"], one["token_ids"])
            scored = service.generate(*request(0, "full", "--prompt-logprobs", 0))
            self.assertEqual(scored["usage"]["cached_tokens"], 0)
            self.assertEqual(scored["token_ids"], one["token_ids"])

    def test_a_lost_worker_takes_its_cache_along(self):
        with Service(MODEL) as service:
            service.generate(*request(0, "full"))
            service.kill_worker()
            service.start_worker()
            service.wait_ready()
            answer = service.generate(*request(0, "full"))
            self.assertEqual(answer["usage"]["cached_tokens"], 0)
            self.assertEqual(outcome(answer), self.cold["full"])
            self.assertGreater(service.generate(*request(0, "full"))["usage"]["cached_tokens"], 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
