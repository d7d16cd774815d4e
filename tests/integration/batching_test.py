"""An answer depends on its request alone: not on its neighbours, nor on the size of Steps."""

import json
import unittest

import golden
from service import Service, ids, model_path, read_to_end

MODEL = model_path("smollm2")


def requests():
    """Eight requests: short and long prompts, greedy and sampled."""
    cases = golden.load("smollm2")
    chosen = [*cases[:6], *cases[-2:]]
    for i, case in enumerate(chosen):
        sampling = ["--temperature", 0] if i % 2 == 0 else ["--temperature", 0.9, "--seed", 7 + i]
        yield ["--token-ids", ids(case["prompt_ids"]), *sampling, "--ignore-eos", "--max-tokens",
               48, "--logprobs", 2]


def outcome(answer):
    return answer["token_ids"], answer["logprobs"]


class BatchingTest(unittest.TestCase):

    def test_answers_are_equal_alone_and_beside_seven_others(self):
        with Service(MODEL) as service:
            alone = [outcome(service.generate(*request)) for request in requests()]
            processes = [service.start_kvec("generate", *request, "--json")
                         for request in requests()]
            together = [outcome(json.loads(read_to_end(process))) for process in processes]
        for i, (one, other) in enumerate(zip(alone, together)):
            self.assertEqual(one, other, f"request {i}")

    def test_answers_are_equal_for_every_size_of_steps(self):
        answers = []
        for step_tokens in (48, 512):
            flags = ["--step-tokens", step_tokens, "--mixed-prompt-tokens", step_tokens]
            with Service(MODEL, coordinator_flags=flags) as service:
                answers.append([outcome(service.generate(*request)) for request in requests()])
        for i, (small, large) in enumerate(zip(*answers)):
            self.assertEqual(small, large, f"request {i}")

    def test_a_fork_samples_what_a_request_of_its_own_would(self):
        prompt = ["--prompt", "Once upon a time", "--seed", 3, "--max-tokens", 24, "--ignore-eos"]
        with Service(MODEL) as service:
            four = service.generate(*prompt, "--n", 4)["choices"]
            one = service.generate(*prompt)
        self.assertEqual(four[0]["token_ids"], one["token_ids"])
        self.assertEqual(len({tuple(choice["token_ids"]) for choice in four}), 4)


if __name__ == "__main__":
    unittest.main(verbosity=2)
