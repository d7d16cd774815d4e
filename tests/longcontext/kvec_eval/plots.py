"""The report's pictures, as SVG text to put into a page."""

import io

import matplotlib
import numpy

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "kvec-eval"  # the same picture, the same bytes
from matplotlib import pyplot  # noqa: E402  (the backend is chosen first)

from kvec_eval.results import ALL  # noqa: E402
from kvec_eval.runner import FULL  # noqa: E402

MARKERS = "osD^vP*X<>"


def _svg(figure):
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    return text.getvalue()[text.getvalue().index("<svg"):]


def _styles(table):
    """The same colour and marker for a policy in every picture."""
    evicting = [policy for policy in table.policies if policy != FULL]
    colours = pyplot.get_cmap("tab10").colors
    return {policy: {"color": colours[i % 10], "marker": MARKERS[i % len(MARKERS)],
                     "label": policy} for i, policy in enumerate(evicting)}


def score_over_budget(table):
    """Score, with standard errors, for each policy."""
    figure, axes = pyplot.subplots(figsize=(8.2, 4.2), layout="constrained")
    for policy, style in _styles(table).items():
        points = [(budget, mean) for budget in table.budgets
                  if (mean := table.mean("score", ALL, policy, budget))]
        axes.errorbar([x for x, _ in points], [mean.value for _, mean in points],
                      yerr=[mean.error for _, mean in points], capsize=2, linewidth=1.3,
                      markersize=5, **style)
    full = table.mean("score", ALL, FULL, None)
    if full:
        axes.axhline(full.value, color="black", linestyle="--", linewidth=1, label=FULL)
    axes.set_xscale("log", base=2)
    axes.set_xticks(table.budgets, [str(budget) for budget in table.budgets])
    axes.set(xlabel="budget (entries per KV head)", ylabel="score",
             ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right center", fontsize=8)
    return _svg(figure)


def divergence_over_budget(table, family):
    """KL to the full cache, with standard errors, for each policy; "" without the full cache."""
    if not table.cell(family, FULL, None):
        return ""
    figure, axes = pyplot.subplots(figsize=(8.2, 4.2), layout="constrained")
    for policy, style in _styles(table).items():
        points = [(budget, mean) for budget in table.budgets
                  if (mean := table.mean("divergence", family, policy, budget))]
        axes.errorbar([x for x, _ in points], [mean.value for _, mean in points],
                      yerr=[mean.error for _, mean in points], capsize=2, linewidth=1.3,
                      markersize=5, **style)
    axes.set_xscale("log", base=2)
    axes.set_xticks(table.budgets, [str(budget) for budget in table.budgets])
    axes.set(xlabel="budget (entries per KV head)", ylabel="KL from the full cache, nats per token")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right center", fontsize=8)
    return _svg(figure)


def score_over_coverage(table):
    """One point per policy and budget: mean coverage, mean score."""
    figure, axes = pyplot.subplots(figsize=(8.2, 4.2), layout="constrained")
    for policy, style in _styles(table).items():
        points = [(table.mean("coverage", ALL, policy, budget), mean, budget)
                  for budget in table.budgets
                  if (mean := table.mean("score", ALL, policy, budget))]
        axes.plot([x.value for x, _, _ in points], [y.value for _, y, _ in points], linewidth=0.7,
                  markersize=5, **style)
        for x, y, budget in points:
            axes.annotate(str(budget), (x.value, y.value), fontsize=7, xytext=(3, 3),
                          textcoords="offset points", color=style["color"])
    axes.set(xlabel="coverage (unique tokens kept by any head of any layer / prompt)",
             ylabel="score", ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right center", fontsize=8)
    return _svg(figure)


def _layer_means(results, field):
    """(layers, means over the results) of a field of usage.layers."""
    values = {}
    for result in results:
        for layer in result.usage.get("layers", []):
            values.setdefault(layer.get("layer", 0), []).append(layer.get(field, 0))
    layers = sorted(values)
    return layers, [sum(values[layer]) / len(values[layer]) for layer in layers]


def layers(table, budget):
    """What each layer was given, and how many different tokens it kept with that. Policies with the
    same curve are one line, under all their names."""
    figure, both = pyplot.subplots(1, 2, figsize=(11, 3.8), layout="constrained")
    fields = (("kept_entries", "kept entries, all KV heads"),
              ("unique_tokens", "unique tokens kept by any KV head"))
    for axes, (field, label) in zip(both, fields):
        curves = {}
        for policy, style in _styles(table).items():
            found, means = _layer_means(table.cell(ALL, policy, budget), field)
            curves.setdefault((tuple(found), tuple(means)), []).append(style)
        for (found, means), styles in curves.items():
            names = "\n".join(style["label"] for style in styles)
            axes.plot(found, means, linewidth=1, markersize=3, **{**styles[0], "label": names})
        axes.set(xlabel="layer", ylabel=label)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
    return _svg(figure)


def needle_map(table, budget):
    """Mean score by the needle's depth, and by length where there are several, else by family."""
    found = [r for r in table.results if not r.forced and r.depth is not None]
    lengths = sorted({r.length for r in found})
    depths = sorted({r.depth for r in found})
    if not depths:
        return ""
    row_of = (lambda r: r.length) if len(lengths) > 1 else (lambda r: r.family)
    rows = lengths if len(lengths) > 1 else list(dict.fromkeys(map(row_of, found)))
    policies = table.policies
    columns = min(4, len(policies))
    height = -(-len(policies) // columns)
    figure, grid = pyplot.subplots(height, columns, squeeze=False, layout="constrained",
                                   sharex=True, sharey=True,
                                   figsize=(1.6 + 2.2 * columns, height * (0.8 + 0.24 * len(rows))))
    for axes, policy in zip(grid.flat, policies):
        scores = [[_mean_score(r for r in table.cell(ALL, policy, budget)
                               if r.depth == depth and row_of(r) == row) for depth in depths]
                  for row in rows]
        image = axes.imshow(scores, vmin=0, vmax=1, cmap="viridis", aspect="auto")
        for (row, column), value in numpy.ndenumerate(scores):
            if not numpy.isnan(value):
                axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=6,
                          color="black" if value > 0.6 else "white")
        axes.set_title(policy, fontsize=9)
        axes.set_xticks(range(len(depths)), [f"{depth:g}" for depth in depths], fontsize=7)
        axes.set_yticks(range(len(rows)), rows, fontsize=7)
    for empty in range(len(policies), grid.size):
        grid.flat[empty].set_visible(False)
        grid.flat[empty - columns].tick_params(labelbottom=True)
    figure.colorbar(image, ax=grid, shrink=0.8, label="score")
    figure.supxlabel("depth of the needle", fontsize=9)
    if len(lengths) > 1:
        figure.supylabel("prompt tokens", fontsize=9)
    return _svg(figure)


def _mean_score(results):
    values = [r.score for r in results]
    return sum(values) / len(values) if values else float("nan")
