import math

import numpy as np
import pytest
from kvec_eval import statistics


def test_a_mean_has_the_standard_error_of_its_sample():
    mean = statistics.mean_of([1, 2, 3, 4])
    assert (mean.value, mean.count) == (2.5, 4)
    assert mean.error == pytest.approx(math.sqrt(5 / 3) / 2)
    assert math.isnan(statistics.mean_of([1]).error)


def test_paired_differences_need_no_agreement_between_the_prompts():
    # The prompts differ much, the policies by 0.1 on each: sure, where unpaired it were noise.
    baseline = np.linspace(0, 1, 20)
    subject = baseline + 0.1 + np.tile([0.01, -0.01], 10)
    mean, p = statistics.paired(subject, baseline)
    assert mean.value == pytest.approx(0.1)
    assert p < 1e-10


def test_equal_results_differ_with_p_one_and_a_single_pair_says_nothing():
    assert statistics.paired([1, 0], [1, 0])[1] == 1
    assert math.isnan(statistics.paired([1], [0])[1])


def test_p_of_noise_is_uniform():
    generator = np.random.default_rng(1)
    p = [statistics.paired(generator.normal(size=12), np.zeros(12))[1] for _ in range(2000)]
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.015)


def test_bootstrap_bounds_hold_the_mean_and_agree_with_its_error():
    generator = np.random.default_rng(2)
    differences = generator.normal(0.3, 1, size=200)
    low, high = statistics.bootstrap(differences, np.zeros(200))
    mean = statistics.mean_of(differences)
    assert low == pytest.approx(mean.value - 1.96 * mean.error, abs=0.02)
    assert high == pytest.approx(mean.value + 1.96 * mean.error, abs=0.02)
    assert statistics.bootstrap(differences, np.zeros(200)) == (low, high)


def test_bootstrap_of_pairs_that_always_differ_alike_is_sure():
    assert statistics.bootstrap([0.5, 1, 0.25], [0.25, 0.75, 0]) == pytest.approx((0.25, 0.25))
    assert np.isnan(statistics.bootstrap([1], [0])).all()


def test_holm_steps_down_and_stays_monotonic():
    # Worked by hand: 3 * .01, 2 * .02, and .04 raised to what stands before it.
    assert statistics.holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert statistics.holm([0.9, 0.8]) == [1.0, 1.0]


def test_holm_leaves_out_what_could_not_be_tested():
    adjusted = statistics.holm([0.01, float("nan"), 0.5])
    assert adjusted[0] == pytest.approx(0.02)
    assert math.isnan(adjusted[1])


def test_rank_correlation_is_undefined_without_variation():
    assert statistics.rank_correlation([1, 2, 3], [10, 20, 40]) == pytest.approx(1)
    assert math.isnan(statistics.rank_correlation([1, 1, 1], [1, 2, 3]))
