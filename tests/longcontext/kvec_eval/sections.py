"""The report's tables, as (title, explanation, header, rows) of text."""

import math

from kvec_eval.results import ALL, SIGNIFICANT, turn_family
from kvec_eval.runner import FULL

# A loss to another policy that is worth a line, on the mean of a family.
GREATEST_FAMILY_LOSS = 0.02
COST_FIELDS = ("kv_bytes", "peak_kv_bytes", "prefill_tokens_per_second", "time_to_first_token_ms",
               "eviction_ms", "decode_tokens_per_second")
BASELINES = (FULL, "snapkv")  # with which every policy is compared


def number(value, digits=3):
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def with_error(mean, digits=3):
    if mean is None:
        return "–"
    if math.isnan(mean.error):
        return number(mean.value, digits)
    return f"{mean.value:.{digits}f} ± {mean.error:.{digits}f}"


def _budget_rows(table, cell):
    """A row per evicting policy: cell(policy, budget) under each budget."""
    return [[policy, *(cell(policy, budget) for budget in table.budgets)]
            for policy in table.policies if policy != FULL]


class Sections:
    """Makes them of a run's table."""

    def __init__(self, table, subject):
        self.table = table
        self.subject = subject
        self.comparisons = table.comparisons(subject) if subject in table.policies else []
        self._budgets = [f"B={budget}" for budget in table.budgets]

    def all(self):
        made = [self._scores(), self._by_task(), self._turns(),
                *map(self._family, self.table.families[1:] if len(self.table.families) > 2 else [])]
        made.extend(self._against(name) for name in BASELINES if name in self.table.policies)
        if self.comparisons:
            made.extend([self._share_of_full(), self._differences(), self._losses()])
        made.extend([self._coverage(), self._correlation()])
        made.extend(self._forced(name) for name in self.table.forced_families)
        made.append(self._cost())
        return [section for section in made if section[3]]

    def _scores(self):
        full = self.table.mean("score", ALL, FULL, None)
        count = full.count if full else 0
        return ("Score",
                "All answered tasks, 0 … 1, mean ± standard error: of needles and samples the "
                "share of answer tokens right, of LongBench and RULER their published metrics. "
                f"Full cache {with_error(full)} on {count} prompts.", ["policy", *self._budgets],
                _budget_rows(self.table,
                             lambda *cell: with_error(self.table.mean("score", ALL, *cell))))

    def _by_task(self):
        """As the papers print it: a column per task, and the mean of these."""
        families = self.table.families[1:]
        rows = []
        for policy in self.table.policies:
            for budget in [None] if policy == FULL else self.table.budgets:
                means = [self.table.mean("score", family, policy, budget) for family in families]
                values = [mean.value if mean else math.nan for mean in means]
                rows.append([policy, budget or "–", *map(number, values),
                             number(sum(values) / len(values) if values else math.nan)])
        return ("Score by task",
                "Means over each task's prompts; the last column is the tasks' mean.",
                ["policy", "budget", *families, "mean"], rows if len(families) > 1 else [])

    def _turns(self):
        rows = []
        for policy in self.table.policies:
            for turn in self.table.turns if len(self.table.turns) > 1 else []:
                def cell(budget, policy=policy, turn=turn):
                    mean = self.table.mean("score", turn_family(turn), policy, budget)
                    first = self.table.median_of("time_to_first_token_ms", policy, budget, turn)
                    return f"{with_error(mean)} / {number(first, 0)}"

                rows.append([policy, turn, *map(cell, self.table.budgets)])
        return ("Score by turn", "The cache was evicted for the first question; later ones are "
                "asked of what it has left. Score / median time to first token, ms.",
                ["policy", "turn", *self._budgets], rows)

    def _against(self, baseline):
        found = {(c.policy, c.budget): c for c in self.table.against(baseline) if c.family == ALL}

        def cell(*key):
            comparison = found.get(key)
            if comparison is None:
                return "–"
            return (f"{number(comparison.difference.value)} "
                    f"[{', '.join(map(number, comparison.interval))}]")

        rows = [row for row in _budget_rows(self.table, cell) if row[0] != baseline]
        return (f"Every policy minus {baseline}", "All answered tasks, paired by prompt; in "
                "brackets 95 % of a bootstrap over the prompts.", ["policy", *self._budgets], rows)

    def _family(self, family):
        full = self.table.mean("score", family, FULL, None)
        return (f"Family {family}", f"Full cache {with_error(full)}.", ["policy", *self._budgets],
                _budget_rows(self.table,
                             lambda *cell: with_error(self.table.mean("score", family, *cell))))

    def _share_of_full(self):
        rows = []
        for family in self.table.families:
            full = self.table.mean("score", family, FULL, None)
            if full is None or full.value == 0:
                continue
            means = [self.table.mean("score", family, self.subject, budget)
                      for budget in self.table.budgets]
            rows.append([family, *(number(mean.value / full.value) if mean else "–"
                                   for mean in means)])
        return (f"{self.subject} as a share of the full cache", "Ratio of the means.",
                ["family", *self._budgets], rows)

    def _differences(self):
        found = {(c.baseline, c.budget): c for c in self.comparisons if c.family == ALL}

        def cell(baseline, budget):
            comparison = found.get((baseline, budget))
            if comparison is None:
                return "–"
            star = "*" if comparison.adjusted_p < SIGNIFICANT else ""
            return f"{with_error(comparison.difference)}{star}"

        baselines = [policy for policy in self.table.policies if policy != self.subject]
        return (f"{self.subject} minus each policy",
                "All answered tasks, paired by prompt, mean ± standard error; * where Holm's "
                f"adjusted p is below {SIGNIFICANT} ({len(self.comparisons)} comparisons, those of "
                "single families included).",
                ["baseline", *self._budgets],
                [[baseline, *(cell(baseline, budget) for budget in self.table.budgets)]
                 for baseline in baselines])

    def _losses(self):
        """Where the subject is behind a baseline by more than GREATEST_FAMILY_LOSS, or surely."""
        lost = [c for c in self.comparisons
                if c.baseline != FULL
                and (c.difference.value < -GREATEST_FAMILY_LOSS or c.is_loss)]
        rows = [[c.family, c.budget, c.baseline, with_error(c.difference), number(c.adjusted_p)]
                for c in sorted(lost, key=lambda c: c.difference.value)]
        return (f"Where {self.subject} loses",
                f"To another policy by more than {GREATEST_FAMILY_LOSS} on a mean, or surely.",
                ["family", "budget", "baseline", "difference", "adjusted p"],
                rows or [["none", "", "", "", ""]])

    def _coverage(self):
        def cell(*key):
            whole = self.table.mean("coverage", ALL, *key)
            layer = self.table.mean("layer_coverage", ALL, *key)
            return f"{number(whole.value)} / {number(layer.value)}" if whole else "–"

        return ("Coverage", "Unique prompt tokens kept by any head of any layer, as a share of the "
                "prompt / mean over the layers of those kept by any head of the layer.",
                ["policy", *self._budgets], _budget_rows(self.table, cell))

    def _correlation(self):
        found = self.table.coverage_correlations()
        return ("Does coverage explain the score?", "Spearman's rank correlation of coverage with "
                "the score.", ["over", "correlation"],
                [[name, number(value, 2)] for name, value in found.items()])

    def _forced(self, family):
        full = self.table.mean("nll", family, FULL, None)
        perplexity = number(math.exp(full.value), 2) if full else "–"

        def cell(*key):
            nll = self.table.mean("nll", family, *key)
            if nll is None:
                return "–"
            divergence = self.table.mean("divergence", family, *key)
            return f"{math.exp(nll.value):.2f} / {with_error(divergence)}"

        return (f"Text that follows: {family}", f"Perplexity / KL from the full cache (nats per "
                f"token, a lower bound from the 20 best tokens). Full cache: {perplexity}.",
                ["policy", *self._budgets], _budget_rows(self.table, cell))

    def _cost(self):
        rows = []
        for policy in self.table.policies:
            for budget in [None] if policy == FULL else self.table.budgets:
                kv_bytes, peak, prefill, first, eviction, decode = (
                    self.table.median_of(field, policy, budget) for field in COST_FIELDS)
                rows.append([policy, budget or "–", number(kv_bytes / 1e6, 2),
                             number(peak / 1e6, 2), number(prefill, 0), number(first, 0),
                             number(eviction, 1), number(decode, 0)])
        return ("Memory and time", "Medians over the answers. Times are of requests that ran "
                "beside each other: not a benchmark. Prefill is of prompts that were not found in "
                "the prefix cache.",
                ["policy", "budget", "KV MB", "peak KV MB", "prefill tokens/s", "first token ms",
                 "eviction ms", "decode tokens/s"], rows)
