"""Suites: what a YAML file asks, and the prompts that this makes for the served model."""

import dataclasses
import hashlib
import random

import yaml

from kvec_eval import samples, tasks
from kvec_eval.files import DataError
from kvec_eval.longbench import SUBSETS, LongBench
from kvec_eval.prompts import Order


class SuiteError(ValueError):
    """A suite that can't be run, and why."""


# Fields that say how many prompts of which name, and the names that there are (None: any).
COUNTS = {"tasks": tasks.TASKS, "longbench": SUBSETS, "samples": None}


@dataclasses.dataclass
class Suite:
    name: str
    seed: int = 0
    prompt_tokens: list[int] = dataclasses.field(default_factory=list)
    depths: list[float] = dataclasses.field(default_factory=lambda: [0.1, 0.3, 0.5, 0.7, 0.9])
    tasks: dict[str, int] = dataclasses.field(default_factory=dict)      # prompts of each length
    longbench: dict[str, int] = dataclasses.field(default_factory=dict)  # of data.longbench
    samples: dict[str, int] = dataclasses.field(default_factory=dict)    # of data.samples, JSONL
    data: dict[str, str] = dataclasses.field(default_factory=dict)       # paths, beside the suite
    max_prompt_tokens: int | None = None  # of longbench; unset: what the context has room for
    chat: bool = True        # tasks go through the model's chat template, where it has one
    ask_later: bool = False  # tasks' questions come after the context was evicted
    turns: int = 1           # questions of a task, each on the cache that the last one left

    def __post_init__(self):
        for field, kind in (*((field, dict) for field in COUNTS), ("data", dict),
                            ("prompt_tokens", list), ("depths", list)):
            if not isinstance(getattr(self, field), kind):
                raise SuiteError(f"{field}: not a {'mapping' if kind is dict else 'list'}")
        if not any(getattr(self, field) for field in COUNTS):
            raise SuiteError(f"suite: neither {' nor '.join(COUNTS)}")
        if self.tasks and not self.prompt_tokens:
            raise SuiteError("prompt_tokens: missing, the lengths that the tasks are to have")
        self._check_counts()
        for field, values in (("prompt_tokens", self.prompt_tokens),
                              ("max_prompt_tokens", [self.max_prompt_tokens or 1])):
            for length in values:
                if not isinstance(length, int) or length < 1:
                    raise SuiteError(f"{field}: {length!r} is not a number of tokens")
        for field in ("chat", "ask_later"):
            if not isinstance(getattr(self, field), bool):
                raise SuiteError(f"{field}: neither true nor false")
        if not isinstance(self.turns, int) or self.turns < 1:
            raise SuiteError(f"turns: {self.turns!r} is not a number of questions")
        if self.turns > 1 and (self.ask_later or self.longbench or self.samples):
            raise SuiteError("turns: goes with tasks only, and without ask_later")
        for depth in self.depths:
            if not isinstance(depth, (int, float)) or not 0 <= depth <= 1:
                raise SuiteError(f"depths: {depth!r} is outside 0 … 1")

    def _check_counts(self):
        for field, known in COUNTS.items():
            for name, count in getattr(self, field).items():
                if known is not None and name not in known:
                    raise SuiteError(f"{field}: unknown '{name}'; known: {', '.join(known)}")
                if not isinstance(count, int) or count < 1:
                    raise SuiteError(f"{field}.{name}: {count!r} is not a number of prompts")


def load(path):
    """Reads a suite; SuiteError names the field that is wrong."""
    with open(path, encoding="utf-8") as file:
        try:
            fields = yaml.safe_load(file)
        except yaml.YAMLError as error:
            raise SuiteError(f"{path}: {error}") from error
    if not isinstance(fields, dict):
        raise SuiteError(f"{path}: not a mapping of fields")
    known = {field.name for field in dataclasses.fields(Suite)}
    for field in fields:
        if field not in known:
            raise SuiteError(f"{path}: unknown field '{field}'; known: {', '.join(sorted(known))}")
    try:
        return Suite(**fields)
    except TypeError as error:
        raise SuiteError(f"{path}: {error}") from error


def _generator(*parts):
    """Random numbers that depend on the parts only, not on what was drawn for other prompts."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return random.Random(int.from_bytes(digest[:8], "big"))


async def make_prompts(suite, tokenizer, files):
    """All prompts of the suite, round-robin over the tasks: a run that is cut short has some of
    each. And a message for each part that is left out, for want of the data it reads."""
    made, errors = await _generated(suite, tokenizer, files)
    for field, source in (("longbench", _longbench), ("samples", _samples)):
        if getattr(suite, field):
            try:
                made.extend(await source(suite, tokenizer, files))
            except DataError as error:
                errors.append(f"{field}: {error}")
    return made, errors


async def _generated(suite, tokenizer, files):
    """A task's first prompts do not depend on how many there are to be."""
    made, errors = [], {}
    for index in range(max(suite.tasks.values(), default=0)):
        for start, (name, count) in enumerate(suite.tasks.items()):
            if index >= count or name in errors:
                continue
            # Tasks walk through the depths from different starts.
            depth = suite.depths[(index + start) % len(suite.depths)]
            for length in suite.prompt_tokens:
                order = Order(f"{name}-{length}-{index}", index,
                              _generator(suite.seed, name, length, index), length, depth, tokenizer,
                              files, suite.chat, suite.ask_later, suite.turns)
                try:
                    made.append(await tasks.TASKS[name](order))
                except DataError as error:
                    errors[name] = f"tasks.{name}: {error}"
                    break
    return made, list(errors.values())


async def _longbench(suite, tokenizer, files):
    published = LongBench(files.path("longbench", "longbench"))
    return await published.prompts(suite.longbench, tokenizer, suite.chat, suite.max_prompt_tokens)


async def _samples(suite, tokenizer, files):
    return await samples.load(files.path("samples", "samples"), suite.samples, tokenizer)
