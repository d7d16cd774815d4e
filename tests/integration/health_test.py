"""What gRPC health says at every moment, in a long prefill too, and a coordinator that is told to end
while it serves 50 streams."""

import contextlib
import signal
import threading
import time
import unittest

from processes import DEADLINE_SECONDS, stop, wait_until
from service import Service, model_path
from packages import need

need("grpc", "kvec.v1")

import grpc  # noqa: E402: only where they are installed
from kvec.v1 import inference_pb2, inference_pb2_grpc

MODEL = model_path("smollm2")
READY, ALIVE = "kvec.v1.Inference", "kvec.Liveness"
SERVING, NOT_SERVING = 1, 2  # grpc.health.v1's HealthCheckResponse.ServingStatus
NUM_STREAMS = 50
PREFILL_TOKENS = 8000
# A probe of Kubernetes waits a second or two.
PROBE_SECONDS = 1


class Health:
    """grpc.health.v1 of a coordinator, without its stubs."""

    def __init__(self, channel):
        self._check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=lambda service: bytes([0x0A, len(service)]) + service.encode(),
            response_deserializer=lambda reply: reply[1] if reply else 0)

    def __call__(self, service, timeout=PROBE_SECONDS):
        return self._check(service, timeout=timeout)


@contextlib.contextmanager
def serving(*flags, **options):
    with Service(MODEL, flags, **options) as service:
        with grpc.insecure_channel(service.target) as channel:
            yield service, inference_pb2_grpc.InferenceStub(channel), Health(channel)


def request(token_ids, max_tokens):
    message = inference_pb2.GenerateRequest(token_ids=inference_pb2.TokenIds(ids=token_ids))
    message.sampling.temperature = 0
    message.stopping.max_tokens = max_tokens
    message.stopping.ignore_eos = True
    return message


class HealthTest(unittest.TestCase):

    def test_it_follows_the_workers_and_the_coordinator_stays_alive(self):
        with serving(num_workers=0, waits_until_ready=False) as (service, _, health):
            wait_until(lambda: health(ALIVE) == SERVING, "the coordinator's heartbeat")
            self.assertEqual(health(READY), NOT_SERVING)
            service.start_worker()
            wait_until(lambda: health(READY) == SERVING, "the worker")
            service.kill_worker()
            wait_until(lambda: health(READY) == NOT_SERVING, "the loss to be noticed")
            self.assertEqual(health(ALIVE), SERVING)

    def test_a_hung_coordinator_is_not_alive(self):
        with serving() as (service, _, health):
            wait_until(lambda: health(ALIVE) == SERVING, "the coordinator's heartbeat")
            stop(service.coordinator.pid)
            with self.assertRaises(grpc.RpcError) as raised:
                health(ALIVE)
            self.assertEqual(raised.exception.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
            service.coordinator.send_signal(signal.SIGCONT)
            # A suspension is no hang: it is alive as soon as it can answer.
            self.assertEqual(health(ALIVE, timeout=DEADLINE_SECONDS), SERVING)

    def test_it_tells_the_truth_in_a_long_prefill(self):
        worker_flags = ["--threads", 1, "--max-step-tokens", PREFILL_TOKENS]
        with serving("--step-tokens", PREFILL_TOKENS, worker_flags=worker_flags) as (
                service, stub, health):
            wait_until(lambda: health(ALIVE) == SERVING, "the coordinator's heartbeat")
            prompt = [1000 + i % 20000 for i in range(PREFILL_TOKENS)]
            begin = time.monotonic()
            answer = stub.Generate(request(prompt, 4))
            num_probes = 0
            ended = threading.Event()
            answer.add_callback(ended.set)
            tokens = []
            reader = threading.Thread(
                target=lambda: tokens.extend(t for reply in answer for t in reply.token_ids))
            reader.start()
            while not ended.wait(0.2):
                self.assertEqual((health(READY), health(ALIVE)), (SERVING, SERVING))
                num_probes += 1
            reader.join()
            print(f"{num_probes} probes in {time.monotonic() - begin:.1f} s of one Step's prefill")
            self.assertEqual(len(tokens), 4)
            self.assertGreater(num_probes, 10)
            # A worker that dies in a prefill is a lost one at once, not when the Step would have ended.
            answer = stub.Generate(request(prompt[::-1], 4))
            wait_until(lambda: service.status()["num_requests_running"] == 1, "the prefill to begin")
            service.kill_worker()
            wait_until(lambda: health(READY) == NOT_SERVING, "the loss to be noticed")
            self.assertEqual(health(ALIVE), SERVING)
            answer.cancel()


class DrainTest(unittest.TestCase):

    def test_sigterm_drops_none_of_fifty_streams(self):
        flags = ["--max-running-sequences", NUM_STREAMS, "--drain-seconds", DEADLINE_SECONDS]
        with serving(*flags) as (service, stub, health):
            requests = [request([2000 + i, 3000 + i, 4000 + i], 64) for i in range(NUM_STREAMS)]
            undisturbed = stub.Generate(requests[7])
            expected = [t for reply in undisturbed for t in reply.token_ids]
            streams = [stub.Generate(message) for message in requests]
            tokens = [list(next(stream).token_ids) for stream in streams]  # all of them run
            service.coordinator.send_signal(signal.SIGTERM)
            wait_until(lambda: health(READY) == NOT_SERVING, "the coordinator to drain")
            with self.assertRaises(grpc.RpcError) as raised:
                list(stub.Generate(requests[0]))
            self.assertEqual(raised.exception.code(), grpc.StatusCode.UNAVAILABLE)
            for stream, received in zip(streams, tokens):
                received.extend(t for reply in stream for t in reply.token_ids)
            self.assertEqual([len(received) for received in tokens], [64] * NUM_STREAMS)
            self.assertEqual(tokens[7], expected)
            self.assertEqual(service.coordinator.wait(DEADLINE_SECONDS), 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
