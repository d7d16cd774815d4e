#!/usr/bin/env python3
"""What a coordinator does at ten times the load that it can serve.

Measures the goodput (tokens per second of requests that end well) of as many clients as fit, then of
--factor times as many requests per second for --seconds, sent whether or not others have ended. Prints
one JSON object: goodput of both, how fast requests were refused, whether each refusal said when to
come back (grpc-retry-pushback-ms), and the growth of both processes' memory under the overload. Runs
in the environment of kvec-eval.
"""

import asyncio
import json
import random
import statistics
import time

import grpc
from kvec.v1 import inference_pb2 as pb
from kvec.v1 import inference_pb2_grpc

import service as services

FIRST_PLAIN_ID = 1000  # lower ids may be special tokens
ARENA_BYTES = 64 << 20
PUSHBACK = "grpc-retry-pushback-ms"


def parse_arguments():
    parser = services.argument_parser(__doc__)
    parser.add_argument("--running", type=int, default=16, help="sequences that run at a time")
    parser.add_argument("--waiting", type=int, default=16, help="requests that may wait")
    parser.add_argument("--prompt-tokens", type=int, default=64)
    parser.add_argument("--max-tokens", type=int, default=32)
    parser.add_argument("--peak-seconds", type=float, default=20)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--factor", type=float, default=10)
    return parser.parse_args()


class Load:
    """Requests of random prompts, and what became of them."""

    def __init__(self, stub, args):
        self._stub = stub
        self._args = args
        self._random = random.Random(1)
        self.good_tokens = 0
        self.num_good = 0
        self.refusal_seconds = []
        self.num_without_pushback = 0
        self.errors = []

    async def send(self):
        ids = [self._random.randrange(FIRST_PLAIN_ID, FIRST_PLAIN_ID + 20000)
               for _ in range(self._args.prompt_tokens)]
        request = pb.GenerateRequest(token_ids=pb.TokenIds(ids=ids))
        request.sampling.temperature = 0
        request.stopping.max_tokens = self._args.max_tokens
        request.stopping.ignore_eos = True
        begin = time.monotonic()
        tokens = 0
        try:
            async for response in self._stub.Generate(request):
                tokens += len(response.token_ids)
            self.good_tokens += tokens
            self.num_good += 1
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.RESOURCE_EXHAUSTED:
                self.errors.append(f"{error.code().name}: {error.details()}")
                return
            self.refusal_seconds.append(time.monotonic() - begin)
            names = {key for key, _ in error.trailing_metadata() or ()}
            self.num_without_pushback += PUSHBACK not in names


async def closed_loop(load, clients, seconds):
    """Each client sends its next request when the last one has ended."""
    end = time.monotonic() + seconds

    async def client():
        while time.monotonic() < end:
            await load.send()

    await asyncio.gather(*(client() for _ in range(clients)))


async def open_loop(load, per_second, seconds):
    begin = time.monotonic()
    sent = []
    for i in range(int(per_second * seconds)):
        await asyncio.sleep(max(0, begin + i / per_second - time.monotonic()))
        sent.append(asyncio.create_task(load.send()))
    await asyncio.gather(*sent)


async def measure(args, service):
    async with grpc.aio.insecure_channel(service.target) as channel:
        stub = inference_pb2_grpc.InferenceStub(channel)
        warm = Load(stub, args)
        await closed_loop(warm, args.running, args.peak_seconds / 4)
        peak = Load(stub, args)
        begin = time.monotonic()
        await closed_loop(peak, args.running + args.waiting // 2, args.peak_seconds)
        peak_seconds = time.monotonic() - begin

        pids = {"coordinator": service.coordinator.pid, "worker": service.worker.pid}
        before = {name: services.use_of(pid) for name, pid in pids.items()}
        over = Load(stub, args)
        begin = time.monotonic()
        await open_loop(over, args.factor * peak.num_good / peak_seconds, args.seconds)
        over_seconds = time.monotonic() - begin
        after = {name: services.use_of(pid) for name, pid in pids.items()}

    peak_rate, over_rate = peak.good_tokens / peak_seconds, over.good_tokens / over_seconds
    refusals = sorted(over.refusal_seconds)
    return {
        "peak_tokens_per_second": round(peak_rate, 1),
        "overload_tokens_per_second": round(over_rate, 1),
        "goodput_share": round(over_rate / peak_rate, 3),
        "requests_per_second": round(args.factor * peak.num_good / peak_seconds, 1),
        "served": over.num_good,
        "refused": len(refusals),
        "refusal_ms": {"median": round(1000 * statistics.median(refusals), 2),
                       "p90": round(1000 * refusals[int(0.9 * len(refusals))], 2),
                       "p99": round(1000 * refusals[int(0.99 * len(refusals))], 2)}
        if refusals else None,
        "refusals_without_pushback": over.num_without_pushback,
        "memory_growth": {name: round(after[name].resident_bytes / before[name].resident_bytes - 1, 4)
                          for name in pids},
        "other_errors": over.errors[:5],
    }


def main():
    args = parse_arguments()
    flags = ["--max-running-sequences", str(args.running), "--max-waiting-requests", str(args.waiting)]
    # An arena that the peak load fills: pages that are touched for the first time are no growth.
    arena = ["--kv-bytes", str(ARENA_BYTES)]
    with services.Service(args.programs, args.model, args.threads, flags,
                          arena) as service:
        print(json.dumps(asyncio.run(measure(args, service)), indent=1))


if __name__ == "__main__":
    main()
