"""Suites: what a YAML file asks, and the prompts that this makes for the served model."""

import dataclasses
import hashlib
import random

import yaml

from kvec_eval import needles, prompts, samples


class SuiteError(ValueError):
    """A suite that can't be run, and why."""


@dataclasses.dataclass
class Suite:
    name: str
    seed: int = 0
    prompt_tokens: list[int] = dataclasses.field(default_factory=list)
    depths: list[float] = dataclasses.field(default_factory=lambda: [0.1, 0.3, 0.5, 0.7, 0.9])
    tasks: dict[str, int] = dataclasses.field(default_factory=dict)    # prompts of each length
    samples: dict[str, int] = dataclasses.field(default_factory=dict)  # of a JSONL file
    chat: bool = True        # tasks go through the model's chat template, where it has one
    ask_later: bool = False  # tasks' questions come after the context was evicted

    def __post_init__(self):
        for field, kind in (("tasks", dict), ("samples", dict), ("prompt_tokens", list),
                            ("depths", list)):
            if not isinstance(getattr(self, field), kind):
                raise SuiteError(f"{field}: not a {'mapping' if kind is dict else 'list'}")
        if not self.tasks and not self.samples:
            raise SuiteError("suite: neither tasks nor samples")
        if self.tasks and not self.prompt_tokens:
            raise SuiteError("prompt_tokens: missing, the lengths that the tasks are to have")
        for name in self.tasks:
            if name not in needles.TASKS:
                raise SuiteError(f"tasks: unknown '{name}'; known: {', '.join(needles.TASKS)}")
        for field in ("tasks", "samples"):
            for name, count in getattr(self, field).items():
                if not isinstance(count, int) or count < 1:
                    raise SuiteError(f"{field}.{name}: {count!r} is not a number of prompts")
        for length in self.prompt_tokens:
            if not isinstance(length, int) or length < 1:
                raise SuiteError(f"prompt_tokens: {length!r} is not a number of tokens")
        for field in ("chat", "ask_later"):
            if not isinstance(getattr(self, field), bool):
                raise SuiteError(f"{field}: neither true nor false")
        for depth in self.depths:
            if not isinstance(depth, (int, float)) or not 0 <= depth <= 1:
                raise SuiteError(f"depths: {depth!r} is outside 0 … 1")


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


async def make_prompts(suite, tokenizer, samples_path=None):
    """All prompts of the suite, round-robin over the tasks: a run that is cut short has some of
    each. A task's first prompts do not depend on how many there are to be."""
    made = []
    for index in range(max(suite.tasks.values(), default=0)):
        for name, count in suite.tasks.items():
            if index >= count:
                continue
            for length in suite.prompt_tokens:
                rng = _generator(suite.seed, name, length, index)
                # Tasks walk through the depths from different starts.
                start = list(suite.tasks).index(name)
                depth = suite.depths[(index + start) % len(suite.depths)]
                draft = needles.TASKS[name](rng, depth)
                draft.chat &= suite.chat
                made.append(await prompts.fit(draft, f"{name}-{length}-{index}", length, depth,
                                              tokenizer, suite.ask_later))
    if suite.samples:
        if samples_path is None:
            raise SuiteError("samples: the suite wants some; --samples names their file")
        made.extend(await samples.load(samples_path, suite.samples, tokenizer))
    return made
