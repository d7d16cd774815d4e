"""A running kvec, through its gRPC service."""

import asyncio
import time
import uuid

import grpc
import yaml
from google.protobuf import json_format
from kvec.v1 import inference_pb2 as pb
from kvec.v1 import inference_pb2_grpc

from kvec_eval.access import Access

# Passing states: a worker restarts, the queue is full.
RETRIED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
TOP_LOGPROBS = 20  # the most that the service gives


def cache_fields(policy):
    """The CachePolicy that `NAME[+FIELD[=VALUE]]…` names: kvec+layer_allocation=coverage, or
    kvec+second_reading. ValueError for a field that there is not."""
    name, *settings = policy.split("+")
    fields = {"policy": name}
    for setting in settings:
        field, _, value = setting.partition("=")
        fields[field] = yaml.safe_load(value) if value else True
    try:
        json_format.ParseDict(fields, pb.CachePolicy())
    except json_format.ParseError as error:
        raise ValueError(f"policy '{policy}': {error}") from error
    return fields


def set_cache(request, policy, budget):
    json_format.ParseDict(cache_fields(policy), request.cache)
    if budget is not None:
        request.cache.budget_tokens = budget


def likeliest(prompt, answer):
    """The answer to a question that was fed together with the expected one: in each place the token
    that the model thinks likeliest."""
    tokens = [entry["top"][0][0] for entry in answer["logprobs"][-len(prompt.answer_ids):]]
    scored = slice(prompt.scored_from, None)
    is_right = tokens[scored] == prompt.answer_ids[scored]
    return {"token_ids": tokens, "text": prompt.answer if is_right else "",
            "usage": answer["usage"]}


class ServiceError(Exception):
    """What a target answered instead of a result; `is_transient` after all retries."""

    def __init__(self, target, error):
        super().__init__(f"{target}: {error.code().name}: {error.details()}")
        self.is_transient = error.code() in RETRIED


class Service:
    """One target. Used from one event loop; close() it at the end."""

    def __init__(self, target, retry_seconds=60.0, access=Access()):
        self.target = target
        self.retry_seconds = retry_seconds
        self._metadata = access.metadata()
        self._channel = access.channel(target, [
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES)])
        self._stub = inference_pb2_grpc.InferenceStub(self._channel)

    async def close(self):
        await self._channel.close()

    async def model(self):
        return await self._retried(lambda: self._stub.GetModel(
            pb.GetModelRequest(), metadata=self._metadata))

    # A tokenizer: what prompts and suites want of it.
    async def context_length(self):
        return (await self.model()).context_length

    async def chat(self, message):
        messages = pb.ChatMessages(messages=[pb.ChatMessage(role="user", content=message)])
        return await self._tokenize(pb.TokenizeRequest(chat=messages))

    async def next_turn(self, message):
        """What comes between an assistant's answer and its answer to the next message."""
        asked = await self.chat("a")
        answered = await self._tokenize(pb.TokenizeRequest(chat=pb.ChatMessages(messages=[
            pb.ChatMessage(role="user", content="a"),
            pb.ChatMessage(role="assistant", content="b"),
            pb.ChatMessage(role="user", content=message)])))
        shown = asked + await self.text("b")
        if answered[:len(shown)] != shown:
            raise ValueError("turns: the model's chat template has no form for a second message")
        return answered[len(shown):]

    async def text(self, text):
        return await self._tokenize(pb.TokenizeRequest(
            text=text, add_special_tokens=False, parse_special_tokens=False))

    async def document(self, text):
        return await self._tokenize(pb.TokenizeRequest(text=text, parse_special_tokens=False))

    async def template(self, text):
        """A prompt that carries its template's special tokens as text."""
        return await self._tokenize(pb.TokenizeRequest(text=text, add_special_tokens=False))

    async def detokenize(self, token_ids):
        """Text without special tokens."""
        response = await self._retried(lambda: self._stub.Detokenize(
            pb.DetokenizeRequest(token_ids=token_ids, skip_special_tokens=True),
            metadata=self._metadata))
        return response.text

    async def _tokenize(self, request):
        response = await self._retried(lambda: self._stub.Tokenize(
            request, metadata=self._metadata))
        return list(response.token_ids)

    async def answer(self, prompt, policy, budget, slack_tokens):
        """Runs one prompt under one policy: token ids, text, usage, and log-probabilities where
        the answer is forced, later turns' under `later`. Greedy; `slack_tokens` beyond the expected
        answer's length, but none where another turn follows: it would read them."""
        if prompt.turns:
            return await self._session(prompt, policy, budget)
        request = pb.GenerateRequest(token_ids=pb.TokenIds(ids=prompt.prompt_ids))
        request.sampling.temperature = 0
        set_cache(request, policy, budget)
        if prompt.asked_ids:
            request.forced_token_ids.extend(prompt.asked_ids + prompt.answer_ids)
            request.logprobs = 1
            answer = await self._retried(lambda: self._collect(request))
            return likeliest(prompt, answer)
        if prompt.forced:
            request.forced_token_ids.extend(prompt.answer_ids)
            request.logprobs = TOP_LOGPROBS
        else:
            request.stopping.max_tokens = (prompt.max_tokens or
                                           len(prompt.answer_ids) + slack_tokens)
            if prompt.stop_ids:
                request.stopping.stop_token_ids.extend(prompt.stop_ids)
                request.stopping.min_tokens = 1
        return await self._retried(lambda: self._collect(request))

    async def _session(self, prompt, policy, budget):
        """Asks one turn after the other, the later ones of the cache that the first one left."""
        session = uuid.uuid4().hex
        answers, ids = [], prompt.prompt_ids
        for turn in (prompt, *prompt.turns):
            if turn is not prompt:
                stopped_by = answers[-1].get("stop_token")
                ids = turn.ids[1:] if turn.ids[:1] == [stopped_by] else turn.ids
            request = pb.GenerateRequest(token_ids=pb.TokenIds(ids=ids), session_id=session,
                                         continue_session=turn is not prompt)
            request.sampling.temperature = 0
            request.stopping.max_tokens = len(turn.answer_ids)
            if turn is prompt:
                set_cache(request, policy, budget)
            answers.append(await self._retried(lambda request=request: self._collect(request)))
        return {**answers[0], "later": answers[1:]}

    async def _collect(self, request):
        answer = {"token_ids": [], "text": "", "usage": None}
        logprobs = []
        async for message in self._stub.Generate(request, metadata=self._metadata):
            answer["token_ids"].extend(message.token_ids)
            answer["text"] += message.text
            logprobs.extend(message.logprobs)
            if message.HasField("usage"):
                usage = json_format.MessageToDict(message.usage, preserving_proto_field_name=True)
                usage.pop("inter_token_ms", None)
                answer["usage"] = usage
            if message.HasField("stop_token_id"):
                answer["stop_token"] = message.stop_token_id
        if logprobs:
            answer["logprobs"] = [
                {"chosen": round(entry.chosen.log_prob, 6),
                 "top": [[top.token_id, round(top.log_prob, 6)] for top in entry.top]}
                for entry in logprobs]
        return answer

    async def _retried(self, call):
        """The call's result; tried again with growing pauses while the service is unavailable or
        full, for at most retry_seconds."""
        give_up = time.monotonic() + self.retry_seconds
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                return await call()
            except grpc.aio.AioRpcError as error:
                if error.code() not in RETRIED or time.monotonic() + pause > give_up:
                    raise ServiceError(self.target, error) from error
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
