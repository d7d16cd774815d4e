"""The measured points, and the rule by which every engine is timed."""

import dataclasses
import json
import random

DECODE_TOKENS = 64
FIRST_PLAIN_ID = 1000  # lower ids may be special tokens


@dataclasses.dataclass(frozen=True)
class Point:
    key: str
    title: str
    phase: str  # "prefill" or "decode"
    prompt_tokens: int  # of each stream; decode begins after it
    batch: int
    wanted_ratio: float  # ours to the best peer's
    budget: int | None = None  # tokens kept of each stream, by the engine's own eviction if it has one

    @property
    def depth(self) -> int:
        """Tokens under the first decode step, as engines count: a prompt of one token is depth 0."""
        return 0 if self.prompt_tokens == 1 else self.prompt_tokens


POINTS = (
    Point("prefill-4096", "prefill 4,096 tokens", "prefill", 4096, 1, 1.15),
    Point("decode-0", "decode at depth 0", "decode", 1, 1, 1.3),
    Point("decode-4096", "decode at depth 4,096", "decode", 4096, 1, 2.0),
    Point("decode-8x2048", "decode, 8 streams at depth 2,048", "decode", 2048, 8, 1.8),
    Point("decode-8000-512", "decode behind 8,000 tokens, 512 kept", "decode", 8000, 1, 3.0, 512),
    Point("decode-8x2048-512", "decode, 8 streams of 2,048, 512 kept", "decode", 2048, 8, 2.0, 512),
)


def find_point(key: str) -> Point:
    for point in POINTS:
        if point.key == key:
            return point
    raise ValueError(f"point {key}: known are {', '.join(p.key for p in POINTS)}")


def random_prompts(point: Point, vocab_size: int, seed: int) -> list[list[int]]:
    generator = random.Random(seed)
    return [
        [generator.randrange(FIRST_PLAIN_ID, vocab_size) for _ in range(point.prompt_tokens)]
        for _ in range(point.batch)
    ]


def vocab_size_of(model_folder: str) -> int:
    with open(f"{model_folder}/config.json", encoding="utf-8") as file:
        return json.load(file)["vocab_size"]
