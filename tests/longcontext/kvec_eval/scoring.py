"""From stored answers to numbers."""

import math

from kvec_eval import metrics


def share_right(prompt, answer):
    """Share of the answer's tokens generated in their place."""
    expected = prompt["answer_ids"][prompt["scored_from"]:]
    given = answer["token_ids"][prompt["scored_from"]:]
    return sum(a == b for a, b in zip(expected, given)) / len(expected)


def is_exact(prompt, answer):
    """Whether the generated text begins with the answer."""
    return answer["text"].strip().startswith(prompt["answer"].strip())


def _tokens(prompt, answer):
    return share_right(prompt, answer), float(is_exact(prompt, answer))


def _by_text(metric):
    def score(prompt, answer):
        value = metric(prompt, answer["text"])
        return value, float(value == 1)

    return score


# By a prompt's metric: (prompt, answer) → score 0 … 1, and whether it is all right, 0 or 1.
METRICS = {"tokens": _tokens,
           **{name: _by_text(metric) for name, metric in metrics.METRICS.items()}}


def negative_log_likelihood(answer):
    """Mean over the forced tokens, in nats."""
    return -sum(entry["chosen"] for entry in answer["logprobs"]) / len(answer["logprobs"])


def divergence(full, other):
    """Mean over the forced tokens of KL(full ‖ other), in nats, over what both list by name and one
    bin for all other tokens: a lower bound of the divergence over the vocabulary."""
    total = sum(_binned_divergence(dict(map(tuple, a["top"])), dict(map(tuple, b["top"])))
                for a, b in zip(full["logprobs"], other["logprobs"]))
    return total / len(full["logprobs"])


SMALLEST = 1e-9  # of a bin: log-probabilities are rounded


def _binned_divergence(full, other):
    shared = full.keys() & other.keys()
    pairs = [(math.exp(full[token]), math.exp(other[token])) for token in shared]
    rest = tuple(max(SMALLEST, 1 - sum(pair[side] for pair in pairs)) for side in (0, 1))
    return sum(p * math.log(max(p, SMALLEST) / max(q, SMALLEST)) for p, q in [*pairs, rest])
