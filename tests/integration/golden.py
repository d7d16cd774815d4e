"""Golden greedy continuations, and the rule by which an answer equals them."""

import json
import pathlib

# Where the reference's two best tokens are closer than this, rounding may choose either.
TIE = 0.1


def load(name):
    """The cases of golden/NAME.json: prompt, prompt_ids, greedy_ids, steps."""
    path = pathlib.Path(__file__).parent / "golden" / f"{name}.json"
    return json.loads(path.read_text())["generate"]


def allowed_ids(step, tie=TIE):
    """The tokens that greedy decoding may choose at this step: those that tie with the best."""
    best = step["top_logprobs"][0]
    return [token_id for token_id, log_prob in zip(step["top_ids"], step["top_logprobs"])
            if token_id == step["top_ids"][0] or best - log_prob < tie]


def comparable_length(case, tie=TIE):
    """Number of leading tokens that must be equal: up to the first tie."""
    for i, step in enumerate(case["steps"]):
        if len(allowed_ids(step, tie)) > 1:
            return i
    return len(case["steps"])
