#!/usr/bin/env python3
"""One table of what run.sh measured: each kernel beside the card's own copy and product, and a model's rates."""

import argparse
import json
import pathlib
import re

COPY = "CopyCeiling/manual_time"
PRODUCT = "Product/rows:8192/out:8192/in:8192/manual_time"


def medians(benchmark):
    """{name: result} of Google Benchmark's JSON: medians of repetitions, or single runs."""
    results = {}
    for result in benchmark["benchmarks"]:
        name = re.sub(r"(/repeats:\d+|_median$)", "", result["name"]).replace("_median", "")
        if result.get("aggregate_name", "median") == "median" and not result.get("error_occurred"):
            results[name] = result
    return results


def kernel_rows(results):
    """Name, microseconds, GB/s and its share of a copy's, TFLOP/s and its share of a product's."""
    copy, product = results[COPY]["bytes_per_second"], results[PRODUCT]["flops"]
    rows = []
    for name, result in results.items():
        rate, flops = result.get("bytes_per_second"), result.get("flops")
        rows.append({
            "name": name.removesuffix("/manual_time"),
            "microseconds": result["real_time"] / {"ns": 1e3, "us": 1, "ms": 1e-3}[result["time_unit"]],
            "gigabytes_per_second": rate and rate / 1e9,
            "share_of_copy": rate and rate / copy,
            "teraflops": flops and flops / 1e12,
            "share_of_product": flops and flops / product,
        })
    return rows


def cell(value, form):
    return "–" if value is None else format(value, form)


def kernel_table(rows):
    lines = ["| kernel | µs | GB/s | of a copy | TFLOP/s | of a product |", "| --- | --- | --- | --- | --- | --- |"]
    for row in rows:
        lines.append(f"| {row['name']} | {row['microseconds']:.1f} | {cell(row['gigabytes_per_second'], '.0f')} | "
                     f"{cell(row['share_of_copy'], '.0%')} | {cell(row['teraflops'], '.1f')} | "
                     f"{cell(row['share_of_product'], '.0%')} |")
    return "\n".join(lines)


def model_table(points):
    lines = ["| phase | prompt | depth | batch | policy | tokens/s (least, most) | KV cache | eviction's share |",
             "| --- | --- | --- | --- | --- | --- | --- | --- |"]
    for point in points:
        lines.append(f"| {point['phase']} | {point['prompt_tokens']} | {point['depth']} | {point['batch']} | "
                     f"{point['policy']} | {point['tokens_per_second']:.0f} ({point['min']:.0f}, {point['max']:.0f}) | "
                     f"{point['kv_bytes'] / 2**20:.0f} MiB | {point.get('eviction_share') or 0:.1%} |")
    return "\n".join(lines)


def report(card, kernels, points):
    text = f"# {card}\n\n{kernel_table(kernels)}\n"
    return text + (f"\nLlama 3.1 8B's shape, random weights:\n\n{model_table(points)}\n" if points else "")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--card", type=pathlib.Path, required=True)
    parser.add_argument("--kernels", type=pathlib.Path, required=True, help="Google Benchmark's JSON")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--json", type=pathlib.Path, required=True)
    parser.add_argument("models", type=pathlib.Path, nargs="*", help="kvec bench --json")
    options = parser.parse_args()
    card = options.card.read_text().strip()
    kernels = kernel_rows(medians(json.loads(options.kernels.read_text())))
    points = [json.loads(line) for path in options.models for line in path.read_text().splitlines()]
    options.out.write_text(report(card, kernels, points))
    options.json.write_text(json.dumps({"card": card, "kernels": kernels, "model": points}, indent=2))


if __name__ == "__main__":
    main()
