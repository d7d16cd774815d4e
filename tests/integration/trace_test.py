"""kvec trace of two stages: what the file says happened, did happen, and in that order."""

import json
import pathlib
import random
import sys
import tempfile
import unittest

from processes import wait_until
from service import Service, ids, model_path

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "benchmarks"))
import cost_model

MODEL = model_path("smollm2")
NUM_STEPS = 60


def record(service, num_steps=NUM_STEPS):
    """Spans of each row by its name, each with `begin`, `end` in microseconds."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "trace.json"
        service.kvec("trace", "--steps", num_steps, "--out", path)
        events = json.loads(path.read_text())["traceEvents"]
    names = {event["tid"]: event["args"]["name"] for event in events
             if event["name"] == "thread_name"}
    rows = {name: [] for name in names.values()}
    for event in events:
        if event["ph"] == "X":
            rows[names[event["tid"]]].append(
                {**event, "begin": event["ts"], "end": event["ts"] + event["dur"]})
    return rows


def step_spans(row):
    return {span["args"]["step"]: span for span in row if span["name"] == "step"}


class TraceTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.service = Service(MODEL, worker_flags=["--threads", 1], shape=(1, 2))
        cls.service.__enter__()
        cls.addClassCleanup(cls.service.__exit__, None, None, None)

    def start_load(self, *arguments, prompt_tokens=300):
        processes = []
        for seed in range(4):
            prompt = ids(random.Random(seed).choices(range(1000, 40000), k=prompt_tokens))
            processes.append(self.service.start_kvec(
                "generate", "--token-ids", prompt, "--max-tokens", 1500, "--ignore-eos", *arguments))
        def end():
            for process in processes:
                process.kill()
                process.wait()
                process.stdout.close()
        self.addCleanup(end)

    def rows(self):
        rows = record(self.service)
        self.assertEqual(list(rows)[0], "coordinator")
        self.assertEqual([name.split(":")[0] for name in list(rows)[1:]],
                         ["stage 0 rank 0", "stage 1 rank 0"])
        return list(rows.values())

    def check_nesting(self, row):
        open_spans = []
        for before, span in zip([None, *row], row):
            self.assertGreaterEqual(span["dur"], 0)
            if before:
                self.assertLessEqual(before["begin"], span["begin"])
            while open_spans and span["begin"] >= open_spans[-1]["end"] - 1e-3:
                open_spans.pop()
            for outer in open_spans:
                self.assertLessEqual(span["end"], outer["end"] + 1e-3,
                                     f"{span['name']} in {outer['name']}")
            open_spans.append(span)

    def test_spans_nest_and_cover_the_workers_time_in_the_order_of_the_pipeline(self):
        self.start_load()
        wait_until(lambda: self.service.status()["prompt_tokens"] >= 1200, "the prompts to be read")
        coordinator, first, second = self.rows()
        composed = {span["args"]["step"]: span for span in coordinator
                    if span["name"] == "compose"}
        self.assertEqual(len(composed), NUM_STEPS)
        for row in (first, second):
            self.check_nesting(row)
            self.assertEqual(set(step_spans(row)), set(composed))
            # Idle, a Step, its answer, idle …: nothing between them, or very little.
            outer = [span for span in row if span["name"] in ("step", "idle", "answer")]
            covered = sum(span["dur"] for span in outer)
            self.assertGreater(covered, 0.99 * (row[-1]["end"] - row[0]["begin"]))
            layers = sum(span["dur"] for span in row if span["name"] == "layers")
            self.assertGreater(layers, 0.2 * covered)
        for step, begin in composed.items():
            self.assertLessEqual(begin["end"], step_spans(first)[step]["begin"])
        sent = {span["args"]["step"]: span for span in first if span["name"] == "send"}
        received = {}
        for span in second:
            if span["name"] == "layers":
                received[span["args"]["step"]] = span
        for step, layers in received.items():
            self.assertLessEqual(sent[step]["begin"], layers["begin"])
            rows = step_spans(first)[step]["args"]["rows"]
            self.assertEqual(sent[step]["args"]["sent_bytes"], rows * 576 * 4)
        self.assertTrue({"head", "sample", "share tokens"} <= {span["name"] for span in second})
        self.assertFalse({"head", "sample"} & {span["name"] for span in first})

    def test_evictions_are_in_it_and_what_they_hand_from_stage_to_stage(self):
        self.start_load("--policy", "kvec", "--budget", 64, prompt_tokens=1500)
        _, first, second = self.rows()
        for row, inner in ((first, "send"), (second, "receive")):
            self.check_nesting(row)
            evictions = [span for span in row if span["name"] == "eviction"]
            self.assertGreater(len(evictions), 0)
            for eviction in evictions:
                self.assertIn(inner, [span["name"] for span in row
                                      if eviction["begin"] <= span["begin"] < eviction["end"]])


class SentMessagesTest(unittest.TestCase):
    """Workers send what docs/cost_model.md counts, message by message."""

    SHAPES = ((2, 1), (3, 1), (1, 2), (2, 2))

    def serve(self, shape):
        return Service(MODEL, worker_flags=["--threads", 1], shape=shape)

    def layers(self, service):
        """[num_stages]"""
        workers = service.status()["workers"]
        return [num_layers for _, num_layers in
                sorted({(worker["stage"], worker["num_layers"]) for worker in workers})]

    def test_in_steps_of_decode(self):
        for shape in self.SHAPES:
            with self.subTest(shape=shape), self.serve(shape) as service, \
                    tempfile.TemporaryDirectory() as folder:
                processes = [service.start_kvec("generate", "--prompt", f"{i} ships", "--max-tokens",
                                                4000, "--ignore-eos") for i in range(4)]
                wait_until(lambda: service.status()["generated_tokens"] > 100, "decoding")
                self.assertEqual(service.status()["num_requests_running"], 4)
                path = pathlib.Path(folder) / "trace.json"
                service.kvec("trace", "--steps", 20, "--out", path)
                for process in processes:
                    process.kill()
                    process.wait()
                    process.stdout.close()
                compared, faults = cost_model.check(path, cost_model.Shape(*shape),
                                                    self.layers(service))
                self.assertEqual(faults, [])
                self.assertEqual(compared, 20 * service.num_workers)

    def test_in_an_eviction(self):
        tokens = 1016
        prompt = ids(random.Random(4).choices(range(1000, 40000), k=tokens))
        for tp, pp in self.SHAPES:
            with self.subTest(tp=tp, pp=pp), self.serve((tp, pp)) as service:
                usage = service.generate("--token-ids", prompt, "--policy", "kvec", "--budget", 64,
                                         "--max-tokens", 2)["usage"]
                expected = 0
                for stage, num_layers in enumerate(self.layers(service)):
                    for rank in range(tp):
                        sent = cost_model.messages(cost_model.SMOLLM2, cost_model.Shape(tp, pp), stage,
                                                   rank, num_layers, 0, 0, 0, evictions=[tokens])
                        expected += sent["all-gather"][1]
                self.assertEqual(usage["exchanged_bytes"], expected)


if __name__ == "__main__":
    unittest.main(verbosity=2)
