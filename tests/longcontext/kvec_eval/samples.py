"""Prompts from a JSONL file: one object per line with id, task, context, question, answer_prefix,
answer; prompt = context + question + answer_prefix in the model's own template, and the answer
follows directly. `prompt_ids` and `answer_ids`, where present, are taken as they are."""

import json

from kvec_eval.prompts import Prompt, expected

# Tasks whose answer is one of many possible: scored by its probability, not by its text.
FORCED_TASKS = ("lm", "mnews")
FIELDS = ("id", "task", "context", "question", "answer_prefix", "answer")


class SamplesError(ValueError):
    """A file that is not as described, and where."""


async def load(path, counts, tokenizer):
    """The first counts[task] samples of each task."""
    left = dict(counts)
    made = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            sample = _parse(line, f"{path}:{number}")
            if left.get(sample["task"], 0) == 0:
                continue
            left[sample["task"]] -= 1
            made.append(await _prompt(sample, tokenizer))
    for task, missing in left.items():
        if missing == counts[task]:
            raise SamplesError(f"{path}: no samples of task '{task}'")
    return made


def _parse(line, place):
    try:
        sample = json.loads(line)
    except json.JSONDecodeError as error:
        raise SamplesError(f"{place}: {error}") from error
    for field in FIELDS:
        if not isinstance(sample, dict) or not isinstance(sample.get(field), str):
            raise SamplesError(f"{place}: {field}: missing or no string")
    return sample


async def _prompt(sample, tokenizer):
    prefix = sample["answer_prefix"]
    prompt_ids, answer_ids = sample.get("prompt_ids"), sample.get("answer_ids")
    if prompt_ids is None:
        prompt_ids = await tokenizer.template(sample["context"] + sample["question"] + prefix)
    if answer_ids is None:
        answer_ids, scored_from = await expected(prefix, sample["answer"], tokenizer)
    else:
        scored_from = int(answer_ids[:1] == await tokenizer.text(" "))
    return Prompt(sample["id"], sample["task"], prompt_ids, answer_ids, sample["answer"],
                  scored_from, sample["task"] in FORCED_TASKS, length=len(prompt_ids))
