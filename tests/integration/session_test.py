"""A follow-up continues on what its session has left, and nobody can tell how from the answer."""

import random
import unittest

from processes import wait_until
from service import Service, ids, model_path, read_to_end

MODEL = model_path("smollm2")
HEADS = 30 * 3
PROMPT_TOKENS = 500
ANSWER_TOKENS = 12


def tokens(seed, count):
    return random.Random(seed).choices(range(1000, 20000), k=count)


def turn(session, number, *arguments, max_tokens=ANSWER_TOKENS):
    """The first prompt is long and evicted from, the others are short."""
    prompt = tokens(number, PROMPT_TOKENS if number == 0 else 30)
    return ["--session", session, "--token-ids", ids(prompt), "--temperature", 0.8, "--seed", 7,
            "--ignore-eos", "--max-tokens", max_tokens, *arguments]


def outcome(answer):
    return answer["token_ids"], answer["logprobs"], answer["usage"]["coverage"]


def begin(policy):
    return ["--policy", policy] if policy == "full" else ["--policy", policy, "--budget", 64]


class SessionTest(unittest.TestCase):

    def conversation(self, service, session, policy, between=lambda: None):
        """Three turns; `between` runs before each but the first."""
        outcomes = [outcome(service.generate(*turn(session, 0, *begin(policy)), "--logprobs", 2))]
        for number in (1, 2):
            between()
            answer = service.generate(*turn(session, number, "--continue-session"), "--logprobs", 2)
            self.assertEqual(answer["usage"]["prompt_tokens"], 30)
            self.assertEqual(answer["usage"]["session_tokens"],
                             PROMPT_TOKENS + number * ANSWER_TOKENS + (number - 1) * 30)
            outcomes.append(outcome(answer))
        return outcomes

    def test_a_follow_up_is_prefilled_alone(self):
        with Service(MODEL, coordinator_flags=["--prefix-caching", "off"]) as service:
            service.generate(*turn("a", 0, *begin("kvec")))
            before = service.status()["prompt_tokens"]
            service.generate(*turn("a", 1))
            self.assertEqual(service.status()["prompt_tokens"] - before, 31,
                             "the answer's last token, and the prompt")
            self.assertEqual(service.status()["num_sessions"], 1)

    def test_lost_workers_and_lost_pages_change_no_answer(self):
        with Service(MODEL, worker_flags=["--kv-pages", 60 * HEADS]) as service:

            def kill():
                service.kill_worker()
                service.start_worker()
                service.wait_ready()

            def take_all_pages():
                service.generate("--token-ids", ids(tokens(99, 900)), "--max-tokens", 2)

            for policy in ("full", "kvec", "snapkv"):
                kept = self.conversation(service, f"kept-{policy}", policy)
                self.assertEqual(self.conversation(service, f"lost-{policy}", policy, kill), kept)
                self.assertEqual(
                    self.conversation(service, f"short-{policy}", policy, take_all_pages), kept)
            wait_until(lambda: service.used_pages() == 0, "free pages")

    def test_one_request_at_a_time(self):
        with Service(MODEL) as service:
            process = service.start_kvec("generate", *turn("a", 0, max_tokens=400))
            process.stdout.read(1)
            refused = service.kvec("generate", *turn("a", 0), exit_code=1)
            self.assertIn("session_id: a is in use by another request", refused.stderr)
            read_to_end(process)
            service.generate(*turn("a", 1, "--continue-session"))

    def test_sessions_end(self):
        flags = ["--session-ttl-seconds", 1, "--max-sessions", 2]
        with Service(MODEL, coordinator_flags=flags) as service:
            unknown = service.kvec("generate", *turn("a", 1, "--continue-session"), exit_code=1)
            self.assertIn("there is no session", unknown.stderr)
            service.generate(*turn("a", 0))
            wait_until(lambda: service.status()["num_sessions"] == 0, "the session's end")
            wait_until(lambda: service.used_pages() == 0, "free pages")

    def test_the_context_counts_the_whole_session(self):
        with Service(MODEL) as service:
            service.generate(*turn("a", 0))
            refused = service.kvec("generate", *turn("a", 1, max_tokens=8000), exit_code=1)
            self.assertIn("exceed the context of 8192", refused.stderr)
            service.generate(*turn("a", 1))


if __name__ == "__main__":
    unittest.main(verbosity=2)
