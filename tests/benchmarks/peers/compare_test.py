"""Tests of the comparison's arithmetic; needs no engine: python3 -m unittest compare_test."""

import unittest

import cpu_pressure
import engines
import report
import step_engine
import workload

PREFILL = workload.find_point("prefill-4096")
BATCH = workload.find_point("decode-8x2048")
QUIET = cpu_pressure.Disturbance(pressure=0.01, foreign=0.01)
LOUD = cpu_pressure.Disturbance(pressure=0.5, foreign=0.4)


def make_runs(engine, rates, disturbances=None, point=PREFILL):
    disturbances = disturbances or [QUIET] * len(rates)
    pairs = zip(rates, disturbances)
    return [report.Run(engine, point, i, rate, d) for i, (rate, d) in enumerate(pairs)]


class SummaryTest(unittest.TestCase):
    def test_drops_disturbed_runs_where_enough_others_are_left(self):
        disturbances = [QUIET, QUIET, QUIET, LOUD, LOUD]
        summary = report.summarize(make_runs("a", [10, 11, 12, 1, 2], disturbances), 0.05)
        self.assertEqual((summary.median, summary.low, summary.num_clean), (11, 10, 3))
        self.assertFalse(summary.is_disturbed)

    def test_keeps_and_marks_all_runs_where_too_few_are_undisturbed(self):
        disturbances = [QUIET, QUIET, LOUD, LOUD, LOUD]
        summary = report.summarize(make_runs("a", [10, 11, 1, 2, 3], disturbances), 0.05)
        self.assertEqual((summary.median, summary.num_clean), (3, 2))
        self.assertTrue(summary.is_disturbed)

    def test_forgives_pressure_that_an_engine_makes_itself(self):
        own = cpu_pressure.Disturbance(pressure=0.6, foreign=0.01)
        self.assertFalse(own.exceeds(0.05))
        self.assertTrue(LOUD.exceeds(0.05))


class ReportTest(unittest.TestCase):
    def test_compares_with_the_best_peer(self):
        runs = make_runs("kvec", [30]) + make_runs("x", [10]) + make_runs("y", [20])
        result = report.Report("kvec", ["kvec", "x", "y"], runs, 0.05)
        self.assertEqual(result.best_peer(PREFILL), "y")
        self.assertIn("1.50× (y)", result.markdown())
        self.assertIn("1.15×", result.markdown())

    def test_shows_an_engine_that_failed(self):
        result = report.Report("kvec", ["kvec", "x"], make_runs("kvec", [30]), 0.05)
        self.assertIn("| failed | – |", result.markdown())

    def test_has_no_ratio_without_our_own_engine(self):
        result = report.Report("kvec", ["x"], make_runs("x", [10]), 0.05)
        self.assertIsNone(result.ratio(PREFILL, "x"))
        self.assertIsNone(result.as_json()["points"][0]["engines"]["x"]["ours_to_this"])


class EngineTest(unittest.TestCase):
    def test_llama_cpp_takes_the_batched_program_for_several_streams(self):
        engine = engines.LlamaCpp("/opt/llama-bench", "m.gguf", 2, flash_attention=True)
        self.assertEqual(engine.command(PREFILL, 1)[0], "/opt/llama-bench")
        self.assertEqual(engine.command(BATCH, 1)[0], "/opt/llama-batched-bench")
        self.assertEqual(engine.rate([{"avg_ts": 5.0}]), 5.0)
        self.assertEqual(engine.rate([{"speed_pp": 9.0, "speed_tg": 7.0}]), 7.0)

    def test_names_what_a_failing_program_said(self):
        class Failing(engines.Engine):
            def command(self, point, seed):
                return ["sh", "-c", "echo no such model >&2; exit 3"]

        with self.assertRaisesRegex(engines.EngineError, "exit status 3: no such model"):
            Failing("failing", 1).measure(PREFILL, 1)

    def test_rejects_output_without_json(self):
        class Silent(engines.Engine):
            def command(self, point, seed):
                return ["true"]

        with self.assertRaisesRegex(engines.EngineError, "not understood"):
            Silent("silent", 1).measure(PREFILL, 1)


class FakeEngine(step_engine.StepEngine):
    """One prompt a step, then one token for each; every step takes a second."""

    def __init__(self):
        self.seconds = 0
        self.active = 0
        self.waiting = 0

    def start(self, prompts):
        self.waiting = len(prompts)

    def step(self):
        self.seconds += 1
        if self.waiting:
            self.waiting -= 1
            self.active += 1
        return [1] * self.active + [0] * self.waiting

    def stop(self):
        self.active = 0


class StepEngineTest(unittest.TestCase):
    def test_counts_only_steps_in_which_all_streams_decode(self):
        engine = FakeEngine()
        rate = step_engine.tokens_per_second(engine, BATCH, [[1]] * 8, lambda: engine.seconds)
        self.assertEqual(rate, 8)
        self.assertEqual(engine.active, 0)

    def test_times_prefill_up_to_the_first_token(self):
        engine = FakeEngine()
        rate = step_engine.tokens_per_second(engine, PREFILL, [[1]], lambda: engine.seconds)
        self.assertEqual(rate, 4096)


if __name__ == "__main__":
    unittest.main()
