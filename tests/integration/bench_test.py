"""kvec bench measures a service that it starts, and leaves nothing behind."""

import json
import subprocess
import unittest

from service import model_path, start

MODEL = model_path("smollm2")
KEYS = {"phase", "prompt_tokens", "depth", "batch", "policy", "budget", "tokens_per_second", "min",
        "max", "runs", "kv_bytes", "peak_rss_bytes", "eviction_share"}


class BenchTest(unittest.TestCase):

    def test_measures_every_point(self):
        process = start("kvec", "bench", "--model", MODEL, "--prompt-tokens", "64", "--depth",
                        "0,64", "--batch", "1,4", "--decode-tokens", 16, "--runs", 2, "--threads",
                        2, "--policy", "full", "--json", stdout=subprocess.PIPE, text=True)
        out, _ = process.communicate()
        self.assertEqual(process.returncode, 0)
        points = [json.loads(line) for line in out.splitlines()]
        self.assertEqual([(p["phase"], p["prompt_tokens"], p["depth"], p["batch"]) for p in points],
                         [("prefill", 64, 0, 1), ("decode", 1, 0, 1), ("decode", 1, 0, 4),
                          ("decode", 64, 64, 1), ("decode", 64, 64, 4)])
        for point in points:
            self.assertEqual(set(point), KEYS)
            self.assertEqual((point["policy"], point["budget"], point["runs"]), ("full", None, 2))
            self.assertGreater(point["min"], 0)
            self.assertLessEqual(point["min"], point["tokens_per_second"])
            self.assertLessEqual(point["tokens_per_second"], point["max"])
            self.assertGreater(point["kv_bytes"], 0)
            self.assertGreater(point["peak_rss_bytes"], 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
