"""OpenAI's HTTP API: the real gateway in front of real processes. What comes out of it is what our own
interface answers to the same request."""

import contextlib
import pathlib
import random
import subprocess
import sys
import unittest

from processes import DEADLINE_SECONDS, wait_until
from service import Service, model_path
from packages import need

need("grpc", "kvec.v1", "openai", "smg")

import grpc  # noqa: E402: only where they are installed
import openai
from kvec.v1 import inference_pb2, inference_pb2_grpc

from gateway import Gateway

MODEL = model_path("smollm2")
NAME = "smollm2"
ALIAS = "smollm2@kvec-128"
CHAT = [{"role": "user", "content": "Why is the sky blue?"}]
STORY = "The history of the lighthouse begins"
LONG = {"max_tokens": 4000, "extra_body": {"ignore_eos": True}}
FLAGS = ["--model-name", NAME, "--metrics-listen", "127.0.0.1:0", "--alias", "kvec-128=127.0.0.1:0"]
WORDS = ["hello", " world", "  ", "    ", "\n\n\n", "\t", "123", "'ll", " don't", "<|im_end|>", "<bos>",
         "é", "e\u0301", "²", "٣", "日本", "\u00a0", "▁▁", "\r\n", "\x00", "🙂", "\u200d", "==",
         "https://x.y/z?q=1"]


@contextlib.contextmanager
def serving(*flags, model=MODEL, **options):
    """A service with an alias, and the gateway in front of both names."""
    with Service(model, [*FLAGS, *flags], **options) as service:
        with Gateway([service.target, service.aliases["kvec-128"]]) as gateway:
            yield service, gateway


def random_text(generator):
    def character():
        code = generator.randrange(generator.choice([0x80, 0x800, 0xD800, 0x110000]))
        return chr(0xFFFD if 0xD800 <= code < 0xE000 else code)
    return "".join(generator.choice(WORDS) if generator.random() < 0.6 else character()
                   for _ in range(generator.randrange(1, 40)))


class GatewayTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.service, cls.gateway = cls.enterClassContext(serving())
        cls.client = cls.gateway.client
        cls.channel = cls.enterClassContext(grpc.insecure_channel(cls.service.target))
        cls.stub = inference_pb2_grpc.InferenceStub(cls.channel)

    def native(self, messages=None, prompt=None, logprobs=None, n=1, cache=None, seed=None, max_tokens=30):
        """Our own interface's answer: the text, and the messages of the stream."""
        request = inference_pb2.GenerateRequest(text=prompt) if prompt else inference_pb2.GenerateRequest(
            chat=inference_pb2.ChatMessages(messages=messages))
        request.stopping.max_tokens = max_tokens
        request.sampling.n = n
        if seed is None:
            request.sampling.temperature = 0
        else:
            request.sampling.seed = seed
        if cache:
            request.cache.policy, request.cache.budget_tokens = cache
        if logprobs is not None:
            request.logprobs = logprobs
        texts, responses = [""] * n, list(self.stub.Generate(request, timeout=DEADLINE_SECONDS))
        for response in responses:
            texts[response.choice] += response.text
        return texts if n > 1 else texts[0], responses

    def chat(self, **arguments):
        return self.client.chat.completions.create(
            **{"model": NAME, "messages": CHAT, "max_tokens": 30, "temperature": 0, **arguments})

    def complete(self, **arguments):
        return self.client.completions.create(
            **{"model": NAME, "prompt": STORY, "max_tokens": 30, "temperature": 0, **arguments})

    def test_models_are_the_served_name_and_its_aliases(self):
        self.assertEqual(sorted(model.id for model in self.client.models.list()), [NAME, ALIAS])

    def test_a_chat_is_answered_as_by_our_own_interface(self):
        answer = self.chat()
        text, responses = self.native(CHAT)
        self.assertEqual(answer.choices[0].message.content, text)
        self.assertEqual(answer.choices[0].finish_reason, "length")
        usage = responses[-1].usage
        self.assertEqual(answer.usage.prompt_tokens, usage.prompt_tokens)
        self.assertEqual(answer.usage.completion_tokens, usage.completion_tokens)

    def test_a_streamed_chat_is_the_same_text_in_pieces(self):
        chunks = list(self.chat(stream=True, stream_options={"include_usage": True}))
        pieces = [chunk.choices[0].delta.content for chunk in chunks
                  if chunk.choices and chunk.choices[0].delta.content]
        self.assertGreater(len(pieces), 5)
        self.assertEqual("".join(pieces), self.native(CHAT)[0])
        reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
        self.assertEqual([reason for reason in reasons if reason], ["length"])
        self.assertEqual(chunks[-1].usage.completion_tokens, 30)

    def test_completions_continue_the_prompt(self):
        self.assertEqual(self.complete().choices[0].text, self.native(prompt=STORY)[0])
        streamed = "".join(chunk.choices[0].text for chunk in self.complete(stream=True)
                           if chunk.choices)
        self.assertEqual(streamed, self.native(prompt=STORY)[0])

    def test_a_prefix_is_found_in_the_cache(self):
        prompt = STORY * 20
        self.complete(prompt=prompt)
        self.assertGreater(self.complete(prompt=prompt).usage.prompt_tokens_details.cached_tokens, 64)

    def test_two_choices_are_those_of_our_own_interface(self):
        expected, _ = self.native(CHAT, n=2, seed=11)
        self.assertNotEqual(*expected)
        answer = self.chat(n=2, seed=11, temperature=1)
        self.assertEqual([choice.message.content for choice in answer.choices], expected)
        texts = ["", ""]
        for chunk in self.chat(n=2, seed=11, temperature=1, stream=True):
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
        self.assertEqual(texts, expected)

    def test_sampling_parameters_reach_the_engine(self):
        plain = self.complete().choices[0].text
        for name, value in [("frequency_penalty", 2.0), ("presence_penalty", 2.0)]:
            text = self.complete(max_tokens=100, **{name: value}).choices[0].text
            self.assertFalse(text.startswith(self.native(prompt=STORY, max_tokens=100)[0]), name)
        sampled = [self.complete(temperature=1, seed=seed).choices[0].text for seed in (5, 5, 6)]
        self.assertEqual(sampled[0], sampled[1])
        self.assertNotEqual(sampled[0], sampled[2])
        only_best = self.complete(temperature=1, seed=5, extra_body={"top_k": 1}).choices[0].text
        self.assertEqual(only_best, plain)

    def test_log_probabilities_are_the_engines(self):
        answer = self.chat(logprobs=True, top_logprobs=3, max_tokens=8)
        streamed = [entry for chunk in self.chat(logprobs=True, top_logprobs=3, max_tokens=8, stream=True)
                    if chunk.choices and chunk.choices[0].logprobs
                    for entry in chunk.choices[0].logprobs.content]
        _, responses = self.native(CHAT, logprobs=3, max_tokens=8)
        expected = [entry for response in responses for entry in response.logprobs]
        self.assertEqual(len(expected), 8)
        for got in (answer.choices[0].logprobs.content, streamed):
            self.assertEqual(len(got), len(expected))
            for entry, native in zip(got, expected):
                self.assertAlmostEqual(entry.logprob, native.chosen.log_prob, places=4)
                self.assertEqual(len(entry.top_logprobs), 3)
                for top, native_top in zip(entry.top_logprobs, native.top):
                    self.assertAlmostEqual(top.logprob, native_top.log_prob, places=4)

    def test_a_stop_string_stops_the_engine_too(self):
        text = self.native(prompt=STORY, max_tokens=60)[0]
        stop = text.split()[6]
        cut = text[:text.index(stop)]
        for stream in (False, True):
            before = self.service.metrics()["kvec_generation_tokens_total"]
            answer = self.complete(stop=[stop], max_tokens=2000, stream=stream)
            choices = [choice for chunk in (answer if stream else [answer]) for choice in chunk.choices]
            self.assertEqual("".join(choice.text for choice in choices), cut)
            self.assertEqual(choices[-1].finish_reason, "stop")
            wait_until(lambda: self.service.metrics()["kvec_num_requests_running"] == 0,
                       "the engine to stop")
            generated = self.service.metrics()["kvec_generation_tokens_total"] - before
            self.assertLess(generated, 60)

    def test_whoever_leaves_frees_the_pages(self):
        pages = self.service.used_pages()
        stream = self.client.completions.create(model=NAME, prompt=STORY, stream=True, **LONG)
        next(iter(stream))
        self.assertGreater(self.service.used_pages(), pages)
        stream.close()
        self.wait_idle(pages)
        # Without a stream.
        with self.assertRaises(openai.APITimeoutError):
            self.client.completions.create(model=NAME, prompt=STORY, timeout=1, **LONG)
        self.wait_idle(pages)

    def wait_idle(self, pages):
        wait_until(lambda: self.service.used_pages() == pages, "the pages to be freed")
        metrics = self.service.metrics()
        self.assertEqual(metrics["kvec_num_requests_running"], 0)
        self.assertEqual(metrics["kvec_num_requests_waiting"], 0)

    def test_bad_requests_are_400_and_name_the_field(self):
        schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
        for arguments, words in [({"max_tokens": 10 ** 8}, "max_tokens: 100000000"),
                                 ({"response_format": schema}, "json_schema"),
                                 ({"extra_body": {"regex": "a+"}}, "regex"),
                                 ({"messages": [{"role": "user", "content": "word " * 9000}]}, "8192")]:
            with self.assertRaises(openai.BadRequestError, msg=arguments) as raised:
                self.chat(**arguments)
            self.assertIn(words, str(raised.exception))
        with self.assertRaises(openai.NotFoundError):
            self.chat(model="smollm2@no-such")

    def test_an_alias_has_its_cache_policy(self):
        prompt = " ".join(f"Room {i} is kept by number {i * 7 % 100}." for i in range(60))
        evicted = "kvec_evicted_tokens_total"
        before = self.service.metrics()[evicted]
        self.assertEqual(self.complete(prompt=prompt).choices[0].text, self.native(prompt=prompt)[0])
        self.assertEqual(self.service.metrics()[evicted], before)
        answer = self.complete(model=ALIAS, prompt=prompt)
        wait_until(lambda: self.service.metrics()[evicted] > before, "the eviction to be counted")
        self.assertEqual(answer.choices[0].text, self.native(prompt=prompt, cache=("kvec", 128))[0])

    def test_the_gateways_tokenizer_gives_our_ids(self):
        self.check_tokenizer(self.gateway, NAME, self.stub, num_texts=500)

    def check_tokenizer(self, gateway, name, stub, num_texts):
        generator = random.Random(23)
        for _ in range(num_texts):
            text = random_text(generator)
            request = inference_pb2.TokenizeRequest(text=text, add_special_tokens=False)
            self.assertEqual(gateway.tokenize(name, text), list(stub.Tokenize(request).token_ids),
                             repr(text))

    def test_a_sentence_piece_models_tokenizer_gives_our_ids(self):
        with Service(model_path("gemma3"), ["--model-name", "gemma3"]) as service, Gateway(
                [service.target]) as gateway, grpc.insecure_channel(service.target) as channel:
            self.check_tokenizer(gateway, "gemma3", inference_pb2_grpc.InferenceStub(channel), 300)
            # Texts begin with BOS, which the gateway leaves to the engine.
            answer = gateway.client.completions.create(model="gemma3", prompt="The capital of France",
                                                       max_tokens=10, temperature=0)
            expected = service.generate("--prompt", "The capital of France", "--max-tokens", 10,
                                        "--temperature", 0)
            self.assertEqual(answer.choices[0].text, expected["text"])
            self.assertEqual(answer.usage.prompt_tokens, expected["usage"]["prompt_tokens"])

    def test_the_gateways_questions_leave_no_line_in_the_log(self):
        lines = self.service.log_text().splitlines()
        self.assertEqual([line for line in lines if not line.startswith("I")], [])

    def test_no_prompt_comes_into_the_log(self):
        secret = [{"role": "user", "content": "The secretword is swordfish."}]
        with serving("--log-level", "debug", worker_flags=["--log-level", "debug"]) as (service, gateway):
            chat = gateway.client.chat.completions.create
            answer = chat(model=NAME, messages=secret, max_tokens=12, stop=["stopsecret"])
            text = answer.choices[0].message.content.strip()
            with self.assertRaises(openai.BadRequestError):
                chat(model=NAME, messages=secret * 4000, max_tokens=2)
            log = service.log_text()
            self.assertIn("prompt tokens", log)  # it is the verbose one
            for told in ("swordfish", "secretword", "stopsecret", text[:12]):
                self.assertNotIn(told, log)

    def test_the_example_runs(self):
        example = pathlib.Path(__file__).parents[2] / "examples" / "openai_client.py"
        output = subprocess.run([sys.executable, str(example), f"{self.gateway.url}/v1"],
                                capture_output=True, text=True, check=True,
                                timeout=DEADLINE_SECONDS).stdout
        text = self.native(CHAT, max_tokens=40)[0]
        self.assertIn(f"models: {NAME}, {ALIAS}\n", output)
        self.assertIn(f"chat: {text}\n", output)
        self.assertIn(f"streamed: {text}\n", output)


class FailuresTest(unittest.TestCase):

    def test_a_full_queue_is_429(self):
        flags = ["--max-running-sequences", 1, "--max-waiting-requests", 1]
        with serving(*flags) as (service, gateway):
            create = gateway.client.completions.create
            running = create(model=NAME, prompt=STORY, stream=True, **LONG)
            next(iter(running))
            waiting = service.start_kvec("generate", "--prompt", STORY, "--max-tokens", 5)
            wait_until(lambda: service.metrics()["kvec_num_requests_waiting"] == 1, "the queue to fill")
            for model in (NAME, ALIAS):
                with self.assertRaises(openai.RateLimitError) as raised:
                    create(model=model, prompt=STORY, max_tokens=5)
                self.assertEqual(raised.exception.status_code, 429)
            running.close()
            waiting.stdout.read()
            waiting.stdout.close()
            self.assertEqual(waiting.wait(DEADLINE_SECONDS), 0)
            self.assertNotEqual(create(model=NAME, prompt=STORY, max_tokens=5).choices[0].text, "")

    def test_a_prompt_goes_where_its_prefix_is_cached(self):
        with Service(MODEL, FLAGS) as one, Service(MODEL, FLAGS) as other, \
                Gateway([one.target, other.target], num_models=1) as gateway:
            prompts = [f"Story {i}: " + f"word{i} and another one " * 30 for i in range(6)]
            # Not through the gateway: only the coordinators can tell it where the prompts are.
            for i, prompt in enumerate(prompts):
                with grpc.insecure_channel((one, other)[i % 2].target) as channel:
                    request = inference_pb2.GenerateRequest(text=prompt)
                    request.stopping.max_tokens = 1
                    list(inference_pb2_grpc.InferenceStub(channel).Generate(request))

            def is_found(prompt):
                usage = gateway.client.completions.create(model=NAME, prompt=prompt,
                                                          max_tokens=1).usage
                details = usage.prompt_tokens_details
                return details is not None and details.cached_tokens > 64

            # Events are on their way for a moment.
            wait_until(lambda: is_found(prompts[0]) and is_found(prompts[1]), "the events")
            for prompt in prompts[2:]:
                self.assertTrue(is_found(prompt), prompt)

    def test_a_stream_goes_on_when_a_worker_dies(self):
        with serving() as (service, gateway):
            def answer(on_text=lambda: None):
                text = ""
                for chunk in gateway.client.completions.create(
                        model=NAME, prompt=STORY, max_tokens=300, seed=11, stream=True,
                        extra_body={"ignore_eos": True}):
                    text += chunk.choices[0].text if chunk.choices else ""
                    if len(text) > 40:
                        on_text()
                        on_text = lambda: None  # noqa: E731
                return text

            def replace_worker():
                self.assertEqual(service.metrics()["kvec_num_requests_running"], 1)
                service.kill_worker()
                service.start_worker()

            self.assertEqual(answer(replace_worker), answer())

    def test_a_stream_ends_with_an_error_when_the_coordinator_dies(self):
        with serving() as (service, gateway):
            stream = iter(gateway.client.completions.create(model=NAME, prompt=STORY, stream=True,
                                                            **LONG))
            next(stream)
            service.coordinator.kill()
            with self.assertRaises(openai.APIError):
                for _ in stream:
                    pass
            self.assertIsNone(gateway.process.poll())


if __name__ == "__main__":
    unittest.main(verbosity=2)
