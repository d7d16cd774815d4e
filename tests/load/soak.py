#!/usr/bin/env python3
"""Mixed load for a long time, with cancels and a worker that is killed again and again.

Clients send random requests: short and long prompts, every policy, several choices, sessions, other
step sizes; some leave in the middle. Every fourth request is a golden one, whose tokens must be those
of the beginning. Every --kill-seconds the worker is killed and another one started. At the end the
service is left alone until nothing runs, and must hold no page, and no more threads and descriptors
than after the warm-up; memory must be flat over the last half. Prints one JSON object; exit code 1 when
something was wrong. Runs in the environment of kvec-eval.
"""

import asyncio
import collections
import json
import random
import sys
import time

import grpc
from kvec.v1 import inference_pb2 as pb
from kvec.v1 import inference_pb2_grpc

import service as services

POLICIES = ("full", "streaming", "snapkv", "pyramidkv", "adasnapkv", "kvec-paper", "kvec")
FIRST_PLAIN_ID, LAST_PLAIN_ID = 1000, 21000
GOLDEN_TOKENS = 24
SESSION_TTL_SECONDS = 5
ALLOWED_GROWTH = 0.05  # of memory, over the last half
SPARE_DESCRIPTORS = 16  # connections of clients that have just left
SPARE_THREADS = 8       # gRPC keeps a few more after a burst


def parse_arguments():
    parser = services.argument_parser(__doc__)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--kill-seconds", type=float, default=120)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def random_ids(rng, count):
    return pb.TokenIds(ids=[rng.randrange(FIRST_PLAIN_ID, LAST_PLAIN_ID) for _ in range(count)])


def golden_requests():
    """The same in every call: one per policy."""
    for index, policy in enumerate(POLICIES):
        rng = random.Random(1000 + index)
        request = pb.GenerateRequest(token_ids=random_ids(rng, 150 + 40 * index))
        request.sampling.temperature = 0
        request.stopping.max_tokens = GOLDEN_TOKENS
        request.stopping.ignore_eos = True
        request.cache.policy = policy
        if policy != "full":
            request.cache.budget_tokens = 64
        yield request


def random_request(rng, number):
    request = pb.GenerateRequest(token_ids=random_ids(rng, rng.choice((1, 17, 60, 200, 700))))
    request.sampling.temperature = rng.choice((0, 0.8))
    request.sampling.seed = number
    request.stopping.max_tokens = rng.choice((1, 5, 30, 80))
    if rng.random() < 0.8:
        request.cache.policy = rng.choice(POLICIES)
        if request.cache.policy != "full":
            request.cache.budget_tokens = rng.choice((32, 64, 128))
    kind = rng.random()
    if kind < 0.15:
        request.sampling.n = 3
    elif kind < 0.3:
        request.session_id = f"session-{rng.randrange(4)}"
    return request


class Soak:
    def __init__(self, args, service):
        self._args = args
        self._service = service
        self._rng = random.Random(args.seed)
        self._golden = list(golden_requests())
        self._expected = []
        self.counts = collections.Counter()
        self.wrong = []
        self.samples = []  # (seconds, coordinator's Use, worker's Use)

    async def run(self):
        async with grpc.aio.insecure_channel(self._service.target) as channel:
            self._stub = inference_pb2_grpc.InferenceStub(channel)
            self._expected = [await self._tokens(request) for request in self._golden]
            self._end = time.monotonic() + 60 * self._args.minutes
            clients = [self._client(i) for i in range(self._args.clients)]
            await asyncio.gather(self._killer(), self._sampler(), *clients)
            await self._check_idle()

    async def _tokens(self, request, leave_after=None):
        """The generated tokens; None where the client left."""
        tokens = []
        call = self._stub.Generate(request)
        async for response in call:
            tokens.extend(response.token_ids)
            if leave_after is not None and len(tokens) >= leave_after:
                call.cancel()
                return None
        return tokens

    async def _client(self, number):
        turn = 0
        while time.monotonic() < self._end:
            turn += 1
            if (turn + number) % 4 == 0:
                await self._ask_golden(self._rng.randrange(len(self._golden)))
            else:
                await self._ask_random()

    async def _ask_golden(self, index):
        try:
            given = await self._tokens(self._golden[index])
        except grpc.aio.AioRpcError as error:
            self.wrong.append(f"golden {POLICIES[index]}: {error.code().name}: {error.details()}")
            return
        self.counts["golden"] += 1
        if given != self._expected[index]:
            self.wrong.append(f"golden {POLICIES[index]}: {given}, not {self._expected[index]}")

    async def _ask_random(self):
        self.counts["random"] += 1
        request = random_request(self._rng, self.counts["random"])
        leave_after = self._rng.randrange(0, 6) if self._rng.random() < 0.25 else None
        try:
            if await self._tokens(request, leave_after) is None:
                self.counts["left"] += 1
        except grpc.aio.AioRpcError as error:
            # A session that another client uses, or that has no room for more.
            expected = (grpc.StatusCode.ABORTED, grpc.StatusCode.INVALID_ARGUMENT)
            if request.session_id and error.code() in expected:
                self.counts["session refused"] += 1
            elif error.code() == grpc.StatusCode.UNAVAILABLE:  # no worker just now
                self.counts["unavailable"] += 1
                await asyncio.sleep(0.2)
            else:
                self.wrong.append(f"{error.code().name}: {error.details()}")

    async def _killer(self):
        while time.monotonic() + self._args.kill_seconds < self._end:
            await asyncio.sleep(self._args.kill_seconds)
            self.counts["killed"] += 1
            await asyncio.to_thread(self._service.kill_worker)
            await asyncio.to_thread(self._service.start_worker)

    async def _sampler(self):
        while time.monotonic() < self._end:
            try:
                self.samples.append((time.monotonic(), services.use_of(self._service.coordinator.pid),
                                     services.use_of(self._service.worker.pid)))
            except (OSError, AttributeError):
                pass  # the worker was killed just now
            await asyncio.sleep(1)

    async def _check_idle(self):
        deadline = time.monotonic() + 60
        while True:
            metrics = await asyncio.to_thread(self._service.metrics)
            left = {name: metrics[name] for name in (
                "kvec_num_requests_running", "kvec_num_requests_waiting", "kvec_num_sessions",
                "kvec_kv_cache_usage_perc")}
            if not any(left.values()):
                return
            if time.monotonic() > deadline:
                self.wrong.append(f"left behind: {left}")
                return
            await asyncio.sleep(0.5)

    def check_use(self):
        """Growth of the coordinator, which lives through all: the first sample after a quarter beside
        the last ones."""
        quarter, half = len(self.samples) // 4, len(self.samples) // 2
        def largest(field, samples):
            return max(getattr(sample[1], field) for sample in samples)
        early, late = self.samples[quarter:half], self.samples[half:]
        growth = {field: largest(field, late) - largest(field, early)
                  for field in ("resident_bytes", "threads", "descriptors")}
        if growth["resident_bytes"] > ALLOWED_GROWTH * largest("resident_bytes", early):
            self.wrong.append(f"coordinator: {growth['resident_bytes']} bytes more in the last half")
        if growth["threads"] > SPARE_THREADS or growth["descriptors"] > SPARE_DESCRIPTORS:
            self.wrong.append(f"coordinator: {growth}")
        return {"coordinator_growth": growth,
                "coordinator_resident_bytes": largest("resident_bytes", late),
                "worker_resident_bytes": max(sample[2].resident_bytes for sample in late)}


def main():
    args = parse_arguments()
    flags = ["--session-ttl-seconds", str(SESSION_TTL_SECONDS)]
    with services.Service(args.programs, args.model, args.threads, flags,
                          ["--kv-bytes", str(64 << 20)]) as service:
        soak = Soak(args, service)
        asyncio.run(soak.run())
        use = soak.check_use()
    print(json.dumps({"minutes": args.minutes, **soak.counts, **use,
                      "num_wrong": len(soak.wrong), "wrong": soak.wrong[:10]}, indent=1))
    return 1 if soak.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
