"""A service that answers from the prompt itself, and prompts without one."""

import concurrent.futures
import contextlib
import re

import grpc
import pytest
from kvec.v1 import inference_pb2 as pb
from kvec.v1 import inference_pb2_grpc


class ByteTokenizer:
    """A token per byte; what suites want of a tokenizer."""

    async def context_length(self):
        return 8000

    async def detokenize(self, token_ids):
        return bytes(token_ids).decode(errors="replace")

    async def chat(self, message):
        return list(f"<user>{message}<assistant>".encode())

    async def next_turn(self, message):
        return list(f"<end><user>{message}<assistant>".encode())

    async def text(self, text):
        return list(text.encode())

    document = template = text


class FakeInference(inference_pb2_grpc.InferenceServicer):
    """Under `full` it continues with the number that the prompt's text holds, under any other
    policy with zeros. Fails the first `failures` Generate calls with `failure`."""

    def __init__(self, fingerprint="weights"):
        self.fingerprint = fingerprint
        self.failures = 0
        self.failure = grpc.StatusCode.UNAVAILABLE
        self.generated = []  # (policy, budget) of the calls that were answered
        self.caches = []     # their cache fields
        self.stopping = []   # and stopping criteria
        self.sessions = {}   # by id: policy, and the text so far
        self.stop_token = None  # a byte with which answers end

    def GetModel(self, request, context):
        return pb.GetModelResponse(name="fake", fingerprint=self.fingerprint, num_layers=2,
                                   num_kv_heads=1, cache_policies=["full", "kvec", "snapkv"])

    def Tokenize(self, request, context):
        text = request.text
        if request.HasField("chat"):
            text = "".join(f"<user>{message.content}<assistant>" if message.role == "user"
                           else f"{message.content}<end>" for message in request.chat.messages)
        return pb.TokenizeResponse(token_ids=text.encode())

    def Generate(self, request, context):
        if self.failures > 0:
            self.failures -= 1
            context.abort(self.failure, "prompt: not today")
        policy, text = self._session(request, context)
        budget = request.cache.budget_tokens or None
        self.generated.append((policy, budget))
        self.caches.append(request.cache)
        self.stopping.append(request.stopping)
        coverage = 1.0 if policy == "full" else 0.5
        usage = pb.Usage(prompt_tokens=len(request.token_ids.ids), coverage=coverage, kv_bytes=1000,
                         layers=[pb.LayerCacheUsage(layer=0, budget=8, kept_entries=8)])
        if request.forced_token_ids:
            log_prob = -0.5 if policy == "full" else -1.0
            for token in request.forced_token_ids:
                chosen = pb.TokenLogProb(token_id=token, log_prob=log_prob)
                yield pb.GenerateResponse(token_ids=[token], logprobs=[
                    pb.TokenLogProbs(chosen=chosen, top=[chosen])])
        else:
            answer = _number_in(text) if policy == "full" else "0000000"
            if request.session_id:
                stop = chr(self.stop_token) if self.stop_token else ""
                self.sessions[request.session_id] = policy, f"{text} {answer}{stop}"
            yield pb.GenerateResponse(token_ids=f" {answer}".encode(), text=f" {answer}")
        yield pb.GenerateResponse(finish_reason=pb.FINISH_REASON_LENGTH, usage=usage,
                                  stop_token_id=self.stop_token)

    def _session(self, request, context):
        """The policy, and the prompt's text behind that of its session."""
        text = bytes(request.token_ids.ids).decode()
        if not request.continue_session:
            return request.cache.policy, text
        if request.session_id not in self.sessions:
            context.abort(grpc.StatusCode.NOT_FOUND, "session_id: no such session")
        if request.HasField("cache"):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "cache: of the session")
        policy, before = self.sessions[request.session_id]
        return policy, before + text


def _number_in(text):
    """That of the key which is asked for last, or else the longest one."""
    asked = re.findall(r"number for (\S+) mentioned in the text is", text)
    fact = re.search(rf"number for {asked[-1]} is: (\d+)", text) if asked else None
    if fact:
        return fact[1]
    return max("".join(c if c.isdigit() else " " for c in text).split(), key=len)


@contextlib.contextmanager
def served(inference):
    """host:port of a running server."""
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
    inference_pb2_grpc.add_InferenceServicer_to_server(inference, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


@pytest.fixture
def tokenizer():
    return ByteTokenizer()


@pytest.fixture
def inference():
    return FakeInference()


@pytest.fixture
def target(inference):
    with served(inference) as address:
        yield address
