"""Times an engine that is driven step by step: OpenVINO GenAI and vLLM in their own Python."""

import abc
import argparse
import json
import time

import workload

DROPPED_STEPS = 4  # after the last stream's first token: caches that the prompts have emptied
MAX_TOKENS = 1024  # more than any stream gets before it is stopped


class StepEngine(abc.ABC):
    """A loaded model; one batch at a time."""

    @abc.abstractmethod
    def start(self, prompts: list[list[int]]) -> None:
        """Queues a request of MAX_TOKENS greedy tokens for each prompt; EOS ends none."""

    @abc.abstractmethod
    def step(self) -> list[int]:
        """Runs one step; the number of new tokens of each prompt, in start()'s order."""

    @abc.abstractmethod
    def stop(self) -> None:
        """Cancels what runs and frees its cache."""


def _step_until_all_decode(engine: StepEngine, num_streams: int) -> None:
    counts = [0] * num_streams
    while min(counts) == 0:
        counts = [count + new for count, new in zip(counts, engine.step())]


def tokens_per_second(
    engine: StepEngine, point: workload.Point, prompts: list[list[int]], clock=time.perf_counter
) -> float:
    """Prefill: from the request to its first token. Decode: only steps in which every stream is
    active, so that no stream's prompt or end is counted."""
    begin = clock()
    engine.start(prompts)
    try:
        _step_until_all_decode(engine, point.batch)
        if point.phase == "prefill":
            return point.prompt_tokens / (clock() - begin)
        for _ in range(DROPPED_STEPS):
            engine.step()
        begin = clock()
        for _ in range(workload.DECODE_TOKENS):
            new = engine.step()
            if new != [1] * point.batch:
                raise RuntimeError(f"a step gave {new} tokens instead of one for each stream")
        return point.batch * workload.DECODE_TOKENS / (clock() - begin)
    finally:
        engine.stop()


def run(make_engine, **flags: tuple[type, object]) -> None:
    """The main function of a runner: measures one point, after one run to warm up, and prints a
    JSON object. make_engine gets the parsed arguments; `flags` are arguments of its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True, help="folder of the model")
    parser.add_argument("--point", required=True, type=workload.find_point)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    for name, (kind, default) in flags.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=default)
    args = parser.parse_args()
    engine = make_engine(args)
    vocab_size = workload.vocab_size_of(args.model)
    for seed in (args.seed + 1_000_000, args.seed):
        prompts = workload.random_prompts(args.point, vocab_size, seed)
        rate = tokens_per_second(engine, args.point, prompts)
    print(json.dumps({"tokens_per_second": rate}))
