"""A run's folder as Markdown (report.md), CSV (results.csv, comparisons.csv) and one page with
pictures that needs no other file (report.html)."""

import csv
import math

import jinja2

from kvec_eval import plots
from kvec_eval.results import ALL, SIGNIFICANT, Table, score
from kvec_eval.runner import FULL

# A loss to another policy that is worth a line, on the mean of a family.
GREATEST_FAMILY_LOSS = 0.02
USAGE_FIELDS = ("coverage", "mean_layer_coverage", "kv_bytes", "prefill_ms", "eviction_ms",
                "time_to_first_token_ms", "decode_tokens_per_second")


def number(value, digits=3):
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def with_error(mean, digits=3):
    if mean is None:
        return "–"
    if math.isnan(mean.error):
        return number(mean.value, digits)
    return f"{mean.value:.{digits}f} ± {mean.error:.{digits}f}"


def markdown_table(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _budget_rows(table, cell):
    """A row per evicting policy: cell(policy, budget) under each budget."""
    return [[policy, *(cell(policy, budget) for budget in table.budgets)]
            for policy in table.policies if policy != FULL]


class Sections:
    """The report's tables, as (title, explanation, header, rows)."""

    def __init__(self, table, subject):
        self.table = table
        self.subject = subject
        self.comparisons = table.comparisons(subject) if subject in table.policies else []
        self._budgets = [f"B={budget}" for budget in table.budgets]

    def all(self):
        made = [self._scores(), *(self._family(name) for name in self.table.families[1:])]
        if self.comparisons:
            made.extend([self._against_full(), self._differences(), self._losses()])
        made.extend([self._coverage(), self._correlation()])
        made.extend(self._forced(name) for name in self.table.forced_families)
        made.append(self._cost())
        return [section for section in made if section[3]]

    def _scores(self):
        full = self.table.mean("score", ALL, FULL, None)
        count = full.count if full else 0
        return ("Share of answer tokens right",
                f"All retrieval tasks, mean ± standard error; full cache {with_error(full)} on "
                f"{count} prompts.", ["policy", *self._budgets],
                _budget_rows(self.table,
                             lambda *cell: with_error(self.table.mean("score", ALL, *cell))))

    def _family(self, family):
        full = self.table.mean("score", family, FULL, None)
        return (f"Family {family}", f"Full cache {with_error(full)}.", ["policy", *self._budgets],
                _budget_rows(self.table,
                             lambda *cell: with_error(self.table.mean("score", family, *cell))))

    def _against_full(self):
        rows = []
        for family in self.table.families:
            full = self.table.mean("score", family, FULL, None)
            if full is None or full.value == 0:
                continue
            shares = [self.table.mean("score", family, self.subject, budget)
                      for budget in self.table.budgets]
            rows.append([family, *(number(mean.value / full.value) if mean else "–"
                                   for mean in shares)])
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
                "All retrieval tasks, paired by prompt, mean ± standard error; * where Holm's "
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
                "the share of answer tokens right.", ["over", "correlation"],
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
                usage = [self.table.median_usage(field, policy, budget) for field in USAGE_FIELDS]
                kv_bytes, _, eviction_ms, first, decode = usage[2:]
                rows.append([policy, budget or "–", number(kv_bytes / 1e6, 2),
                             number(first, 0), number(eviction_ms, 1), number(decode, 0)])
        return ("Memory and time", "Medians over the answers. Times are of requests that ran "
                "beside each other: not a benchmark.",
                ["policy", "budget", "KV MB", "first token ms", "eviction ms",
                 "tokens/s of one answer"], rows)


def _write_results(table, path):
    with open(path, "w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["family", "policy", "budget", "prompts", "score", "score_error", "exact",
                      "nll", "divergence", *USAGE_FIELDS])
        for family in table.families + table.forced_families:
            for policy in table.policies:
                for budget in [None] if policy == FULL else table.budgets:
                    cell = table.cell(family, policy, budget)
                    if not cell:
                        continue
                    share = table.mean("score", family, policy, budget)
                    means = [table.mean(field, family, policy, budget).value
                             for field in ("exact", "nll", "divergence")]
                    usage = [sum(float(r.usage.get(field, 0)) for r in cell) / len(cell)
                             for field in USAGE_FIELDS]
                    out.writerow([family, policy, "" if budget is None else budget, len(cell),
                                  *(_csv(value) for value in
                                    (share.value, share.error, *means, *usage))])


def _write_comparisons(comparisons, path):
    with open(path, "w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["family", "budget", "baseline", "prompts", "difference", "difference_error",
                      "p", "adjusted_p"])
        for c in comparisons:
            out.writerow([c.family, c.budget, c.baseline, c.difference.count,
                          *(_csv(value) for value in (c.difference.value, c.difference.error, c.p,
                                                      c.adjusted_p))])


def _csv(value):
    return "" if math.isnan(value) else f"{value:.6g}"


def _markdown(manifest, sections):
    parts = [f"# {manifest['suite']['name']}: {manifest['model']}"]
    for title, text, header, rows in sections:
        parts.append(f"## {title}\n\n{text}\n\n{markdown_table(header, rows)}")
    return "\n\n".join(parts) + "\n"


def _pictures(table):
    """(title, SVG) of each picture."""
    middle = table.budgets[min(1, len(table.budgets) - 1)]
    found = [("Score over budget", plots.score_over_budget(table)),
             ("Score over coverage", plots.score_over_coverage(table)),
             (f"Needles by depth at budget {middle}", plots.needle_map(table, middle)),
             (f"Layers at budget {middle}", plots.layers(table, middle))]
    return [(title, svg) for title, svg in found if svg]


def write(store, subject):
    """Writes the files; returns a line that says where. ValueError without answers."""
    manifest = store.manifest()
    table = Table(score(store))
    if not table.results:
        raise ValueError(f"{store.folder}: no answers yet")
    sections = Sections(table, subject)
    made = sections.all()
    (store.folder / "report.md").write_text(_markdown(manifest, made), encoding="utf-8")
    _write_results(table, store.folder / "results.csv")
    _write_comparisons(sections.comparisons, store.folder / "comparisons.csv")
    environment = jinja2.Environment(loader=jinja2.PackageLoader("kvec_eval", "."),
                                     autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page = environment.get_template("report.html.j2").render(
        manifest=manifest, sections=made, answers=len(table.results),
        pictures=_pictures(table) if table.budgets and len(table.families) > 1 else [])
    (store.folder / "report.html").write_text(page, encoding="utf-8")
    return (f"{len(table.results)} answers: {store.folder}/report.html, report.md, results.csv, "
            f"comparisons.csv")
