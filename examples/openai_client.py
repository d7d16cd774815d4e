#!/usr/bin/env python3
"""kvec through the OpenAI client: models, a chat, a streamed chat, several continuations, log-probabilities.

    pip install openai smg
    smg launch --host 127.0.0.1 --port 8000 --worker-urls grpc://127.0.0.1:50051
    examples/openai_client.py http://127.0.0.1:8000/v1

docs/gateway.md has the whole story.
"""

import sys

from openai import OpenAI

base_url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000/v1"
client = OpenAI(base_url=base_url, api_key="none")  # the gateway asks for no key unless told to

models = sorted(model.id for model in client.models.list())
print("models:", ", ".join(models))
model = models[0]

question = [{"role": "user", "content": "Why is the sky blue?"}]
answer = client.chat.completions.create(model=model, messages=question, max_tokens=40, temperature=0)
print("chat:", answer.choices[0].message.content)
print("usage:", answer.usage.prompt_tokens, "prompt and", answer.usage.completion_tokens, "new tokens")

print("streamed: ", end="")
for chunk in client.chat.completions.create(model=model, messages=question, max_tokens=40,
                                            temperature=0, stream=True):
    if chunk.choices and chunk.choices[0].delta.content:
        print(chunk.choices[0].delta.content, end="", flush=True)
print()

story = client.completions.create(model=model, prompt="Once upon a time", max_tokens=20, n=2, seed=7,
                                  stop=["."])
for choice in story.choices:
    print(f"continuation {choice.index}:", choice.text)

likely = client.chat.completions.create(model=model, messages=question, max_tokens=1, temperature=0,
                                        logprobs=True, top_logprobs=3)
for token in likely.choices[0].logprobs.content[0].top_logprobs:
    print(f"first token {token.token!r}: {token.logprob:.2f}")
