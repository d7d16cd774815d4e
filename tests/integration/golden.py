"""Golden greedy continuations, and the rule by which an answer equals them."""

import json
import pathlib

# Where the reference's two best tokens are closer than this, rounding may choose either.
TIE = 0.1


def load(name):
    """The cases of golden/NAME.json: prompt, prompt_ids, greedy_ids, steps."""
    path = pathlib.Path(__file__).parent / "golden" / f"{name}.json"
    return json.loads(path.read_text())["generate"]


def is_tie(step):
    return step["top_logprobs"][0] - step["top_logprobs"][1] < TIE


def allowed_ids(step):
    """The tokens that greedy decoding may choose at this step."""
    return step["top_ids"][:2] if is_tie(step) else step["top_ids"][:1]


def comparable_length(case):
    """Number of leading tokens that must be equal: up to the first tie."""
    for i, step in enumerate(case["steps"]):
        if is_tie(step):
            return i
    return len(case["steps"])
