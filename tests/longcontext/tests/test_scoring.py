import math

import pytest
from kvec_eval import scoring

PROMPT = {"answer": " 4711", "answer_ids": [9, 4, 7, 1, 1], "scored_from": 1}


@pytest.mark.parametrize("token_ids, share", [
    ([9, 4, 7, 1, 1], 1.0), ([9, 4, 7, 1, 1, 5, 6], 1.0), ([8, 4, 7, 2, 1], 0.75),
    ([9, 4], 0.25), ([], 0.0)])
def test_share_counts_answer_tokens_in_their_place_without_the_blank(token_ids, share):
    assert scoring.share_right(PROMPT, {"token_ids": token_ids}) == share


@pytest.mark.parametrize("text, exact", [(" 4711. This", True), ("4711", True), (" 471", False),
                                         (" It is 4711", False)])
def test_exact_means_that_the_text_begins_with_the_answer(text, exact):
    assert scoring.is_exact(PROMPT, {"text": text}) == exact


def forced(*distributions):
    """An answer whose tokens had these probabilities; token 0 is the one fed."""
    return {"logprobs": [{"chosen": math.log(top[0]),
                          "top": [[token, math.log(p)] for token, p in top.items()]}
                         for top in distributions]}


def test_negative_log_likelihood_is_the_mean_over_the_tokens():
    answer = forced({0: 0.5}, {0: 0.25})
    assert scoring.negative_log_likelihood(answer) == pytest.approx(1.5 * math.log(2))


def test_divergence_of_listed_distributions_is_exact():
    full, other = {0: 0.7, 1: 0.2, 2: 0.1}, {0: 0.5, 1: 0.3, 2: 0.2}
    expected = sum(p * math.log(p / other[token]) for token, p in full.items())
    assert scoring.divergence(forced(full), forced(other)) == pytest.approx(expected, abs=1e-6)


def test_divergence_bins_what_only_one_side_lists():
    # {0} and the rest: .5 against .25, .5 against .75.
    value = scoring.divergence(forced({0: 0.5, 1: 0.3}), forced({0: 0.25, 2: 0.6}))
    assert value == pytest.approx(0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75))


def test_a_distribution_does_not_diverge_from_itself():
    assert scoring.divergence(forced({0: 0.9}), forced({0: 0.9})) == pytest.approx(0)
