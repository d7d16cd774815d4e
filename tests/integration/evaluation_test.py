"""kvec-eval on a small suite of its own: whoever answers, one process, two that share the work, or a group
of four hosts (tp=2, pp=2), the stored answers are the same; and one prefill serves all cells of a prompt. The
command is that of the Kubernetes Job."""

import pathlib
import statistics
import tempfile
import unittest

from many_hosts import Network
from service import Service, model_path
from packages import need

need("grpc", "kvec.v1", "numpy", "tqdm", "yaml")

from evaluation import answers, job_arguments, kvec_eval  # noqa: E402: only where they are installed

MODEL = model_path("smollm2")
SUITE = """name: small
seed: 5
prompt_tokens: [500]
tasks: {key_value: 1, words: 1, code: 1, niah_multikey_1: 1, continuation: 1}
"""
NUM_PROMPTS = 5
NUM_CELLS = 1 + 2 * 4  # full; kvec and snapkv at four budgets
WIDE_WINDOW = 32      # fed again before an eviction
BLOCK_TOKENS = 16     # what the prefix cache counts in
# Ranks sum in another order: with the full cache log-probabilities move by less than 0.01. Where entries of
# nearly the same score compete for the budget's last places, another one may be kept, which moved single
# log-probabilities by up to 0.6, and means over an answer by 0.025.
LOGPROB_NOISE = 0.02
MEAN_LOGPROB_NOISE = 0.05
COVERAGE_NOISE = 0.02


class EvaluationTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        (cls.folder / "small.yaml").write_text(SUITE)
        with Service(MODEL) as service:
            cls.alone = cls.run_suite("alone", [service])

    @classmethod
    def run_suite(cls, name, services, host=None):
        kvec_eval(*job_arguments("run", cls.folder / "small.yaml",
                                 ",".join(service.target for service in services),
                                 cls.folder / name), host=host)
        found = answers(cls.folder / name)
        assert len(found) == NUM_PROMPTS * NUM_CELLS, len(found)
        return found

    def check_same(self, found):
        self.assertEqual(found.keys(), self.alone.keys())
        for cell, expected in self.alone.items():
            self.assertEqual(found[cell]["text"], expected["text"], cell)
            self.assertEqual(found[cell]["token_ids"], expected["token_ids"], cell)
            if "logprobs" in expected:
                self.check_log_probabilities(cell, found[cell]["logprobs"], expected["logprobs"])
            ours, one = found[cell]["usage"], expected["usage"]
            for field in ("prompt_tokens", "completion_tokens", "evicted_tokens"):
                self.assertEqual(ours.get(field), one.get(field), cell)
            self.assertAlmostEqual(ours["coverage"], one["coverage"], delta=COVERAGE_NOISE, msg=cell)

    def check_log_probabilities(self, cell, ours, one):
        differences = [abs(a["chosen"] - b["chosen"]) for a, b in zip(ours, one, strict=True)]
        self.assertLess(statistics.fmean(differences), MEAN_LOGPROB_NOISE, cell)
        if cell[1] == "full":
            self.assertLess(max(differences), LOGPROB_NOISE, cell)

    def test_one_prefill_serves_all_cells_of_a_prompt(self):
        for prompt in {prompt for prompt, _, _ in self.alone}:
            prefilled = sum(answer["usage"]["prompt_tokens"] - answer["usage"].get("cached_tokens", 0)
                            for (owner, _, _), answer in self.alone.items() if owner == prompt)
            once = self.alone[prompt, "full", None]["usage"]["prompt_tokens"]
            self.assertLess(prefilled, once + (NUM_CELLS - 1) * (WIDE_WINDOW + BLOCK_TOKENS))

    def test_two_services_share_the_work_and_answer_alike(self):
        with Service(MODEL, worker_flags=["--threads", 1]) as first, Service(
                MODEL, worker_flags=["--threads", 1]) as second:
            found = self.run_suite("shared", [first, second])
            self.check_same(found)
            by_target = {service.target: {cell[0] for cell, answer in found.items()
                                          if answer["target"] == service.target}
                         for service in (first, second)}
            self.assertTrue(all(by_target.values()), by_target)
            self.assertTrue(by_target[first.target].isdisjoint(by_target[second.target]),
                            "a prompt's cells go to one service")

    def test_a_group_of_four_hosts_answers_like_one_process(self):
        if not Network.is_possible():
            self.skipTest("network namespaces can't be made here; run it as root")
        with Network(5) as network, Service(
                MODEL, worker_flags=["--threads", 1, "--comm-transport", "tcp"], shape=(2, 2),
                network=network) as service:
            self.assertEqual(len(service.status()["workers"]), 4)
            self.check_same(self.run_suite("group", [service], host=network.hosts[0]))
            report = kvec_eval(*job_arguments("report", None, None, self.folder / "group"))
            self.assertIn(f"{NUM_PROMPTS * NUM_CELLS} answers", report)


if __name__ == "__main__":
    unittest.main(verbosity=2)
