"""lm-evaluation-harness asks kvec through the gateway's OpenAI endpoint, with a task of our own: the
scores that it prints are those of what our own interface answers, under each cache policy.

It is large (0.8 GB with what it needs), so nobody installs it for this test: KVEC_LM_EVAL names its
program, or it is found in the PATH; else the test is skipped."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

from service import SKIPPED, Service, model_path
from packages import need

LM_EVAL = os.environ.get("KVEC_LM_EVAL") or shutil.which("lm_eval")
if LM_EVAL is None:
    print("skipped: no lm_eval; pip install 'lm_eval[api]==0.4.13' into an environment of its own, and "
          "KVEC_LM_EVAL=.../bin/lm_eval")
    sys.exit(SKIPPED)
need("openai", "smg")

from gateway import Gateway  # noqa: E402: only where they are installed

MODEL = model_path("smollm2")
NAME = "smollm2"
TASK = "kvec_needles"
FOLDER = pathlib.Path(__file__).parents[1] / "longcontext" / "lm_eval"
DOCUMENTS = [json.loads(line) for line in (FOLDER / "needles.jsonl").read_text().splitlines()]
MAX_TOKENS = 12  # as the task has it
TIMEOUT_SECONDS = 900
# Policy and budget of each alias.
ALIASES = {"kvec-96": ["--policy", "kvec", "--budget", 96],
           "streaming-64": ["--policy", "streaming", "--budget", 64]}


def right_of_our_own_interface(service, *cache):
    """Share of the documents that are answered with their number."""
    right = 0
    for document in DOCUMENTS:
        answer = service.generate("--prompt", document["prompt"], "--temperature", 0, "--max-tokens",
                                  MAX_TOKENS, *cache)
        found = re.search(r"\d{7}", answer["text"].split("\n")[0])
        right += found is not None and found[0] == document["answer"]
    return right / len(DOCUMENTS)


class LmEvalTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        aliases = [flag for name in ALIASES for flag in ("--alias", f"{name}=127.0.0.1:0")]
        cls.service = cls.enterClassContext(Service(MODEL, ["--model-name", NAME, *aliases]))
        cls.gateway = cls.enterClassContext(
            Gateway([cls.service.target, *cls.service.aliases.values()]))

    def printed_score(self, model):
        """What lm_eval says of the model; it may reach nothing but the gateway."""
        model_args = {"model": model, "base_url": f"{self.gateway.url}/v1/completions",
                      "tokenizer_backend": "None", "num_concurrent": 4}
        with tempfile.TemporaryDirectory() as home:
            done = subprocess.run(
                [LM_EVAL, "run", "--model", "local-completions", "--model_args", json.dumps(model_args),
                 "--include_path", ".", "--tasks", TASK],
                cwd=FOLDER, env={**os.environ, "HF_HOME": home, "HF_HUB_OFFLINE": "1",
                                 "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                timeout=TIMEOUT_SECONDS, check=False)
        self.assertEqual(done.returncode, 0, done.stderr[-4000:])
        row = re.search(rf"^\|{TASK}\|.*\|exact_match\|[^|]*\|\s*([0-9.]+)\|", done.stdout, re.MULTILINE)
        self.assertIsNotNone(row, done.stdout)
        return float(row[1])

    def test_the_full_cache_finds_the_numbers(self):
        score = self.printed_score(NAME)
        self.assertAlmostEqual(score, right_of_our_own_interface(self.service), places=4)
        self.assertGreater(score, 0.7)

    def test_an_alias_is_scored_under_its_policy(self):
        scores = {}
        for alias, cache in ALIASES.items():
            scores[alias] = self.printed_score(f"{NAME}@{alias}")
            self.assertAlmostEqual(scores[alias], right_of_our_own_interface(self.service, *cache),
                                   places=4, msg=alias)
        # Most numbers stand before the last 64 tokens.
        self.assertLess(scores["streaming-64"], 0.5)
        self.assertGreater(scores["kvec-96"], scores["streaming-64"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
