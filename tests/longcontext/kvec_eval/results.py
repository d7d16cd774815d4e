"""What a run's answers say: one Result per answer, and the tables made of them."""

import dataclasses
import itertools
import statistics as plain_statistics

from kvec_eval import scoring
from kvec_eval.runner import FULL
from kvec_eval.statistics import Mean, bootstrap, holm, mean_of, paired, rank_correlation

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
    turn: int = 1
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

    @property
    def prefill_tokens_per_second(self):
        """NaN where most of the prompt was found in the prefix cache."""
        prompt, cached, milliseconds = map(self.measure,
                                           ("prompt_tokens", "cached_tokens", "prefill_ms"))
        if cached > prompt / 2 or not milliseconds:
            return float("nan")
        return 1000 * (prompt - cached) / milliseconds

    def measure(self, field):
        """A field of the usage, or prefill_tokens_per_second."""
        if field == "prefill_tokens_per_second":
            return self.prefill_tokens_per_second
        return float(self.usage.get(field, 0))


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
        results.extend(_later_turns(prompt, answer))
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


def _later_turns(prompt, answer):
    for number, (turn, given) in enumerate(zip(prompt["turns"], answer.get("later", [])), 2):
        score, exact = scoring.METRICS["tokens"](turn, given)
        # The depth is that of the first question's needle.
        yield Result(prompt["id"], family_of(prompt["task"]), None, prompt["length"],
                     answer["policy"], answer["budget"], False, given["usage"], number, score,
                     exact)


@dataclasses.dataclass
class Comparison:
    """A policy against a baseline on the same prompts."""

    policy: str
    family: str
    budget: int
    baseline: str
    difference: Mean
    p: float
    adjusted_p: float = float("nan")
    interval: tuple[float, float] = (float("nan"), float("nan"))  # of the difference, 95 %

    @property
    def is_loss(self):
        return self.difference.value < 0 and self.adjusted_p < SIGNIFICANT


def turn_family(turn):
    """All questions that were asked as the turn'th of their prompt."""
    return f"turn {turn}"


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
        self.turns = sorted({r.turn for r in results})
        self._cells = {}
        for result in results:
            families = ([result.family] if result.forced else
                        [ALL, result.family, turn_family(result.turn)])
            for family in families:
                self._cells.setdefault((family, result.policy, result.budget), []).append(result)

    def cell(self, family, policy, budget):
        return self._cells.get((family, policy, None if policy == FULL else budget), [])

    def mean(self, field, family, policy, budget):
        """Mean of a numeric field over a cell's prompts; None where there are no answers."""
        values = self._by_prompt(field, family, policy, budget)
        return mean_of(list(values.values())) if values else None

    def _by_prompt(self, field, *cell):
        """Turns of one prompt are no independent answers: their mean is one value."""
        values = {}
        for result in self.cell(*cell):
            values.setdefault(result.prompt, []).append(getattr(result, field))
        return {prompt: sum(found) / len(found) for prompt, found in values.items()}

    def compare(self, family, budget, subject, baseline):
        """Paired over the prompts that both answered; None where there are none."""
        ours = self._by_prompt("score", family, subject, budget)
        theirs = self._by_prompt("score", family, baseline, budget)
        shared = sorted(ours.keys() & theirs.keys())
        if not shared:
            return None
        pair = [ours[i] for i in shared], [theirs[i] for i in shared]
        return Comparison(subject, family, budget, baseline, *paired(*pair),
                          interval=bootstrap(*pair))

    def comparisons(self, subject):
        """Of the subject with every other policy at every budget in every family, with Holm's
        correction over all of them."""
        baselines = [policy for policy in self.policies if policy != subject]
        found = [self.compare(*cell, subject, baseline) for *cell, baseline in
                 itertools.product(self.families, self.budgets, baselines)]
        found = [comparison for comparison in found if comparison is not None]
        for comparison, adjusted in zip(found, holm([c.p for c in found])):
            comparison.adjusted_p = adjusted
        return found

    def against(self, baseline):
        """Of every other policy with the baseline, at every budget in every family."""
        others = [policy for policy in self.policies if policy not in (FULL, baseline)]
        found = [self.compare(*cell, policy, baseline) for policy, *cell in
                 itertools.product(others, self.families, self.budgets)]
        return [comparison for comparison in found if comparison is not None]

    def median_of(self, field, policy, budget, turn=1):
        """Of a measure, over all answers of a policy and budget in one turn."""
        values = [r.measure(field) for r in self.results if r.turn == turn and
                  (r.policy, r.budget) == (policy, None if policy == FULL else budget)]
        values = [value for value in values if value == value]
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
