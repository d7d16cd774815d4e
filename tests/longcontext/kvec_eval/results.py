"""What a run's answers say: one Result per answer, and the tables made of them."""

import dataclasses
import itertools
import statistics as plain_statistics

from kvec_eval import scoring
from kvec_eval.runner import FULL
from kvec_eval.statistics import Mean, holm, mean_of, paired, rank_correlation

ALL = "all"            # the family of every task that is answered
SIGNIFICANT = 0.05     # of adjusted p


@dataclasses.dataclass
class Result:
    """One answer, scored. Asked tasks have score and exact, forced ones nll and divergence."""

    prompt: str
    family: str
    depth: float | None
    length: int
    policy: str
    budget: int | None
    forced: bool
    usage: dict
    score: float = float("nan")
    exact: float = float("nan")
    nll: float = float("nan")
    divergence: float = float("nan")

    @property
    def coverage(self):
        return self.usage.get("coverage", 0.0)

    @property
    def layer_coverage(self):
        return self.usage.get("mean_layer_coverage", 0.0)


def family_of(task):
    return "scripts" if task.startswith("script_") else task


def score(store):
    """All results of a run."""
    prompts = {prompt["id"]: prompt for prompt in store.prompts()}
    answers = store.answers()
    full = {answer["prompt"]: answer for answer in answers if answer["policy"] == FULL}
    results = []
    for answer in answers:
        prompt = prompts[answer["prompt"]]
        result = Result(prompt["id"], family_of(prompt["task"]), prompt["depth"], prompt["length"],
                        answer["policy"], answer["budget"], prompt["forced"], answer["usage"])
        if prompt["forced"]:
            result.nll = scoring.negative_log_likelihood(answer)
            if prompt["id"] in full:
                result.divergence = scoring.divergence(full[prompt["id"]], answer)
        else:
            result.score, result.exact = scoring.METRICS[prompt["metric"]](prompt, answer)
        results.append(result)
    return results


@dataclasses.dataclass
class Comparison:
    """The subject against a baseline on the same prompts."""

    family: str
    budget: int
    baseline: str
    difference: Mean
    p: float
    adjusted_p: float = float("nan")

    @property
    def is_loss(self):
        return self.difference.value < 0 and self.adjusted_p < SIGNIFICANT


class Table:
    """Results by family, policy and budget. `full` stands beside every budget."""

    def __init__(self, results):
        self.results = results
        self.policies = list(dict.fromkeys(r.policy for r in results))
        if FULL in self.policies:
            self.policies.remove(FULL)
            self.policies.insert(0, FULL)
        self.budgets = sorted({r.budget for r in results if r.budget is not None})
        retrieval = dict.fromkeys(r.family for r in results if not r.forced)
        self.families = [ALL, *retrieval]
        self.forced_families = list(dict.fromkeys(r.family for r in results if r.forced))
        self._cells = {}
        for result in results:
            families = [result.family] if result.forced else [ALL, result.family]
            for family in families:
                self._cells.setdefault((family, result.policy, result.budget), []).append(result)

    def cell(self, family, policy, budget):
        return self._cells.get((family, policy, None if policy == FULL else budget), [])

    def mean(self, field, family, policy, budget):
        """Mean of a numeric field over a cell; None where there are no answers."""
        values = [getattr(r, field) for r in self.cell(family, policy, budget)]
        return mean_of(values) if values else None

    def compare(self, field, family, budget, subject, baseline):
        """Paired over the prompts that both answered; None where there are none."""
        ours = {r.prompt: getattr(r, field) for r in self.cell(family, subject, budget)}
        theirs = {r.prompt: getattr(r, field) for r in self.cell(family, baseline, budget)}
        shared = sorted(ours.keys() & theirs.keys())
        if not shared:
            return None
        difference, p = paired([ours[i] for i in shared], [theirs[i] for i in shared])
        return Comparison(family, budget, baseline, difference, p)

    def comparisons(self, subject):
        """Of the subject with every other policy at every budget in every family, with Holm's
        correction over all of them."""
        baselines = [policy for policy in self.policies if policy != subject]
        found = [self.compare("score", *cell, subject, baseline) for *cell, baseline in
                 itertools.product(self.families, self.budgets, baselines)]
        found = [comparison for comparison in found if comparison is not None]
        for comparison, adjusted in zip(found, holm([c.p for c in found])):
            comparison.adjusted_p = adjusted
        return found

    def median_usage(self, field, policy, budget):
        """Over all answers of a policy and budget."""
        values = [float(r.usage.get(field, 0)) for r in self.results
                  if (r.policy, r.budget) == (policy, None if policy == FULL else budget)]
        return plain_statistics.median(values) if values else float("nan")

    def coverage_correlations(self):
        """Spearman's correlation of coverage with the score, three ways: over the means of
        all policies and budgets, over the policies' means at one budget, and over the prompts of
        one policy and budget (mean of these)."""
        evicting = [policy for policy in self.policies if policy != FULL]
        points = {(policy, budget): self.cell(ALL, policy, budget)
                  for policy in evicting for budget in self.budgets}
        points = {key: cell for key, cell in points.items() if cell}
        means = {key: (mean_of([r.coverage for r in cell]).value,
                       mean_of([r.score for r in cell]).value) for key, cell in points.items()}

        def over(keys):
            pairs = [means[key] for key in keys]
            return rank_correlation([x for x, _ in pairs], [y for _, y in pairs])

        inside = [rank_correlation([r.coverage for r in cell], [r.score for r in cell])
                  for cell in points.values()]
        inside = [value for value in inside if value == value]
        return {
            "over policies and budgets": over(means),
            **{f"over policies at budget {budget}": over(key for key in means if key[1] == budget)
               for budget in self.budgets},
            "over prompts of one policy and budget, mean":
                plain_statistics.fmean(inside) if inside else float("nan"),
        }
