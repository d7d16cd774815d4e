"""The command kvec-eval."""

import argparse
import asyncio
import dataclasses
import os
import pathlib
import sys

from tqdm import tqdm

from kvec_eval import access, report, runner, suite
from kvec_eval.files import Files
from kvec_eval.service import Service, ServiceError, cache_fields
from kvec_eval.store import Store, StoreError

EXAMPLE = """Example:
  kvec-eval run suites/needles.yaml --target 127.0.0.1:50051 --policies full,snapkv,kvec \\
      --budgets 64,128,256 --out /tmp/needles
  kvec-eval report /tmp/needles

Exit codes: 0 done, 1 failed with a message on standard error, 2 wrong usage."""


def _list(text):
    return [item for item in text.split(",") if item]


def _budgets(text):
    try:
        budgets = [int(item) for item in _list(text)]
    except ValueError:
        budgets = []
    if not budgets or min(budgets) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no list of token counts")
    return budgets


def _paths(text):
    pairs = [item.partition("=") for item in _list(text)]
    if not all(name and path for name, _, path in pairs):
        raise argparse.ArgumentTypeError(f"'{text}' is no list of NAME=PATH")
    return {name: os.path.abspath(path) for name, _, path in pairs}


def _count(text):
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0")
    return int(text)


def parser():
    top = argparse.ArgumentParser(
        prog="kvec-eval", description="What a cache policy does to a model's answers over long "
        "contexts: asks a running kvec, and reports.", epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = top.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="ask; goes on where an earlier run of --out stopped")
    run.add_argument("suite", help="YAML file; suites/ has some")
    run.add_argument("--target", required=True, type=_list, metavar="HOST:PORT,…",
                     help="services of the same model, which share the work")
    run.add_argument("--policies", required=True, type=_list, metavar="NAME[+FIELD[=VALUE]],…",
                     help="with fields of CachePolicy: kvec+layer_allocation=coverage, "
                          "kvec+second_reading")
    run.add_argument("--budgets", type=_budgets, default=[], metavar="N,…",
                     help="entries kept per KV head; `full` has none")
    run.add_argument("--out", required=True, metavar="DIR")
    run.add_argument("--data", type=_paths, default={}, metavar="NAME=PATH,…",
                     help="files that the suite reads, in place of those it names")
    run.add_argument("--parallel", type=_count, default=8, metavar="N",
                     help="requests in flight at each target (8)")
    run.add_argument("--retry-seconds", type=float, default=60, metavar="S",
                     help="how long an unavailable or full service is asked again (60)")
    access.add_flags(run)
    show = commands.add_parser("report", help="Markdown, CSV and an HTML page into DIR")
    show.add_argument("folder", metavar="DIR")
    show.add_argument("--subject", default="kvec", metavar="POLICY",
                      help="compared with every other policy, prompt by prompt (kvec)")
    return top


async def _run(options):
    wanted = suite.load(options.suite)
    grid = runner.cells(options.policies, options.budgets)
    allowed = access.Access.of(options)
    services = [Service(target, options.retry_seconds, allowed) for target in options.target]
    store = Store(options.out)
    try:
        models = await asyncio.gather(*(service.model() for service in services))
        _check(models, options)
        store.open_for_run(dataclasses.asdict(wanted), models[0])
        files = Files(pathlib.Path(options.suite).parent, {**wanted.data, **options.data})
        prompts, errors = await suite.make_prompts(wanted, services[0], files)
        store.write_prompts(prompts)
        with tqdm(total=len(prompts) * len(grid), unit="answer", dynamic_ncols=True) as bar:
            run = runner.Runner(services, store, grid, options.parallel, bar.update)
            bar.update(sum(len(grid) - len(run.missing(prompt)) for prompt in prompts))
            await run.run(prompts)
        if errors + run.errors:
            raise RuntimeError("\n".join(errors + run.errors))
    finally:
        store.close()
        await asyncio.gather(*(service.close() for service in services))


def _check(models, options):
    for target, model in zip(options.target, models):
        if model.fingerprint != models[0].fingerprint:
            raise RuntimeError(f"--target {target}: serves {model.name}, other weights than "
                               f"{options.target[0]}'s {models[0].name}")
        for policy in options.policies:
            if cache_fields(policy)["policy"] not in model.cache_policies:
                raise RuntimeError(f"--policies: {target} has no '{policy}'; it has "
                                   f"{', '.join(model.cache_policies)}")


def main():
    options = parser().parse_args()
    if options.command == "run" and not options.budgets and options.policies != [runner.FULL]:
        parser().error("--budgets: missing; only --policies full does without")
    try:
        if options.command == "run":
            asyncio.run(_run(options))
        else:
            print(report.write(Store(options.folder), options.subject))
    except KeyboardInterrupt:
        return 1
    except (OSError, RuntimeError, ValueError, ServiceError, StoreError) as error:
        print(f"kvec-eval: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
