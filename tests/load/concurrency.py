#!/usr/bin/env python3
"""How many long requests a fixed KV arena holds at a time, with the full cache and evicted.

Starts a coordinator and a worker whose arena fits --fitting requests with the full cache, sends more
at once, and samples /metrics: the most that ran at a time, and their decode speed together while all
of those ran. Runs in the environment of kvec-eval.

Full cache: every prompt is another one. Evicted: the prompts share a document and end with different
questions, so that the document is read once; what a request keeps of it after its eviction is its own
pages, exactly as if it had read the document alone. The prompts are random token ids.
"""

import asyncio
import dataclasses
import json
import random
import time

import grpc
from kvec.v1 import inference_pb2 as pb
from kvec.v1 import inference_pb2_grpc

import service as services

PAGE_TOKENS = 16
STEP_TOKENS = 2048  # long Steps: the first requests still answer when the last prompt has been read
FIRST_PLAIN_ID = 1000  # lower ids may be special tokens
SAMPLE_SECONDS = 0.1


@dataclasses.dataclass(frozen=True)
class Sample:
    seconds: float
    running: int
    generated: int
    preemptions: int


def parse_arguments():
    parser = services.argument_parser(__doc__)
    parser.add_argument("--fitting", type=int, default=16, help="full-cache requests that the arena holds")
    parser.add_argument("--prompt-tokens", type=int, default=8000)
    parser.add_argument("--question-tokens", type=int, default=64, help="of which differ when evicted")
    parser.add_argument("--max-tokens", type=int, default=160)
    parser.add_argument("--budget", type=int, default=512)
    parser.add_argument("--decode-interval", type=int, default=64)
    parser.add_argument("--requests", type=int, default=256, help="sent at once when evicted")
    parser.add_argument("--only", choices=["full", "evicted"])
    return parser.parse_args()


def service(args, kv_pages, prefix_caching):
    step = str(STEP_TOKENS)
    coordinator = ["--step-tokens", step, "--mixed-prompt-tokens", step, "--prefix-caching", prefix_caching,
                   "--max-running-sequences", "1024"]
    worker = ["--kv-pages", str(kv_pages), "--max-step-tokens", step]
    return services.Service(args.programs, args.model, args.threads, coordinator, worker)


async def sample(service, samples):
    while True:
        metrics = await asyncio.to_thread(service.metrics)
        samples.append(Sample(time.monotonic(), int(metrics["kvec_num_requests_running"]),
                              int(metrics["kvec_generation_tokens_total"]),
                              int(metrics["kvec_num_preemptions_total"])))
        await asyncio.sleep(SAMPLE_SECONDS)


async def drain(stub, request):
    async for _ in stub.Generate(request):
        pass


async def load(running, first, requests):
    """Sends `first` alone, if there is one, then the others at once; samples until all have ended."""
    samples = []
    async with grpc.aio.insecure_channel(running.target) as channel:
        stub = inference_pb2_grpc.InferenceStub(channel)
        if first is not None:
            await drain(stub, first)
        sampler = asyncio.create_task(sample(running, samples))
        await asyncio.gather(*(drain(stub, request) for request in requests))
        sampler.cancel()
    return samples


def requests_of(args, count, evicted, vocab_size):
    generator = random.Random(1)
    def ids(number):
        return [generator.randrange(FIRST_PLAIN_ID, vocab_size) for _ in range(number)]
    document = ids(args.prompt_tokens - args.question_tokens)
    for _ in range(count):
        prompt = document + ids(args.question_tokens) if evicted else ids(args.prompt_tokens)
        request = pb.GenerateRequest(token_ids=pb.TokenIds(ids=prompt))
        request.sampling.temperature = 0
        request.stopping.max_tokens = args.max_tokens
        request.stopping.ignore_eos = True
        if evicted:
            request.cache.policy = "kvec"
            request.cache.budget_tokens = args.budget
            request.cache.decode_interval_tokens = args.decode_interval
        yield request


def summary(samples):
    """The most that ran at a time, and the decode speed between the first and the last sample with
    at least 95 % of them running."""
    peak = max(sample.running for sample in samples)
    full = [sample for sample in samples if sample.running >= 0.95 * peak]
    seconds = full[-1].seconds - full[0].seconds
    rate = (full[-1].generated - full[0].generated) / seconds if seconds > 0 else float("nan")
    return {"running_at_most": peak, "decode_tokens_per_second": round(rate, 1),
            "over_seconds": round(seconds, 1), "preemptions": samples[-1].preemptions,
            "whole_seconds": round(samples[-1].seconds - samples[0].seconds, 1)}


def measure(args, evicted):
    model = describe(args)
    rows = args.prompt_tokens + args.max_tokens
    pages = -(-rows // PAGE_TOKENS) * model.num_layers * model.num_kv_heads * args.fitting
    count = args.requests if evicted else args.fitting + 2
    with service(args, pages, "on" if evicted else "off") as running:
        requests = list(requests_of(args, count, evicted, model.vocab_size))
        first = requests.pop() if evicted else None  # reads the document that all share
        samples = asyncio.run(load(running, first, requests))
    return {"cache": f"budget {args.budget}" if evicted else "full", "arena_pages": pages,
            "requests": count, **summary(samples)}


def describe(args):
    with service(args, 4096, "off") as running, grpc.insecure_channel(running.target) as channel:
        return inference_pb2_grpc.InferenceStub(channel).GetModel(pb.GetModelRequest())


def main():
    args = parse_arguments()
    for evicted in (False, True):
        if args.only in (None, "evicted" if evicted else "full"):
            print(json.dumps(measure(args, evicted)), flush=True)


if __name__ == "__main__":
    main()
