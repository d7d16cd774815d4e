"""The examples answer as kvec generate does, and say what is wrong."""

import os
import pathlib
import subprocess
import unittest

from service import BIN, Service, model_path

MODEL = model_path("smollm2")
PYTHON_EXAMPLE = pathlib.Path(__file__).resolve().parents[2] / "examples/generate.py"
PROMPT = "What is the capital of France?"


def commands():
    """The examples that can run here, by language."""
    found = {"C++": [BIN / "generate_example"]}
    python = os.environ.get("KVEC_TEST_PYTHON")
    if python:
        found["Python"] = [python, PYTHON_EXAMPLE]
    return found


def run(command, *arguments):
    return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=600)


class ExamplesTest(unittest.TestCase):

    def test_they_print_the_answer_of_kvec_generate(self):
        with Service(MODEL) as service:
            expected = service.generate("--chat", "--prompt", PROMPT, "--temperature", 0, "--max-tokens",
                                        64, "--policy", "kvec", "--budget", 256)
            for language, command in commands().items():
                with self.subTest(language):
                    done = run(command, service.target, PROMPT)
                    self.assertEqual(done.returncode, 0, done.stderr)
                    answer, _, usage = done.stdout.rpartition("\n[")
                    self.assertEqual(answer, expected["text"])
                    self.assertRegex(usage, r"^\d+ prompt tokens, 0 evicted, \d+ generated\]\n$")

    def test_they_fail_with_a_message(self):
        for language, command in commands().items():
            with self.subTest(language):
                done = run(command, "127.0.0.1:1", PROMPT)
                self.assertEqual(done.returncode, 1)
                self.assertTrue(done.stderr.startswith("error: "), done.stderr)
                self.assertEqual(run(command).returncode, 2)


if __name__ == "__main__":
    unittest.main(verbosity=2)
