"""A run's folder as Markdown (report.md), CSV (results.csv, comparisons.csv, bootstrap.csv) and one
page with pictures that needs no other file (report.html)."""

import csv
import math

import jinja2

from kvec_eval import plots
from kvec_eval.results import Table, score, turn_family
from kvec_eval.runner import FULL
from kvec_eval.sections import BASELINES, Sections

MEASURES = ("coverage", "mean_layer_coverage", "kv_bytes", "peak_kv_bytes", "prefill_ms",
            "eviction_ms", "time_to_first_token_ms", "prefill_tokens_per_second",
            "decode_tokens_per_second")


def markdown_table(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _write_results(table, path):
    with open(path, "w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["family", "policy", "budget", "prompts", "score", "score_error", "exact",
                      "nll", "divergence", *MEASURES])
        turns = map(turn_family, table.turns if len(table.turns) > 1 else [])
        for family in [*table.families, *turns, *table.forced_families]:
            for policy in table.policies:
                for budget in [None] if policy == FULL else table.budgets:
                    cell = table.cell(family, policy, budget)
                    if not cell:
                        continue
                    mean = table.mean("score", family, policy, budget)
                    means = [table.mean(field, family, policy, budget).value
                             for field in ("exact", "nll", "divergence")]
                    usage = [_mean_measure(field, cell) for field in MEASURES]
                    out.writerow([family, policy, "" if budget is None else budget, mean.count,
                                  *(_csv(value) for value in
                                    (mean.value, mean.error, *means, *usage))])


def _mean_measure(field, cell):
    """Over the first of the cell's turns, which alone prefills and evicts a prompt."""
    turn = min(r.turn for r in cell)
    values = [r.measure(field) for r in cell if r.turn == turn]
    values = [value for value in values if not math.isnan(value)]
    return sum(values) / len(values) if values else math.nan


def _write_comparisons(comparisons, path):
    with open(path, "w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["family", "budget", "baseline", "prompts", "difference", "difference_error",
                      "p", "adjusted_p"])
        for c in comparisons:
            out.writerow([c.family, c.budget, c.baseline, c.difference.count,
                          *(_csv(value) for value in (c.difference.value, c.difference.error, c.p,
                                                      c.adjusted_p))])


def _write_bootstrap(table, path):
    with open(path, "w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["policy", "family", "budget", "baseline", "prompts", "difference", "low",
                      "high"])
        for baseline in BASELINES:
            for c in table.against(baseline) if baseline in table.policies else []:
                out.writerow([c.policy, c.family, c.budget, baseline, c.difference.count,
                              *(_csv(value) for value in (c.difference.value, *c.interval))])


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
             *((f"Text that follows ({family}): distance from the full cache over budget",
                plots.divergence_over_budget(table, family)) for family in table.forced_families),
             *((f"Needles by depth at budget {budget}", plots.needle_map(table, budget))
               for budget in table.budgets),
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
    _write_bootstrap(table, store.folder / "bootstrap.csv")
    environment = jinja2.Environment(loader=jinja2.PackageLoader("kvec_eval", "."),
                                     autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page = environment.get_template("report.html.j2").render(
        manifest=manifest, sections=made, answers=len(table.results),
        pictures=_pictures(table) if table.budgets and len(table.families) > 1 else [])
    (store.folder / "report.html").write_text(page, encoding="utf-8")
    return (f"{len(table.results)} answers: {store.folder}/report.html, report.md, results.csv, "
            f"comparisons.csv, bootstrap.csv")
