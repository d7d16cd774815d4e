#!/usr/bin/env python3
"""Compares kvec's speed with that of other engines on the same machine.

Each round measures every point with every engine, one after the other in processes of their own,
in an order that turns from round to round. Prints one markdown table, and JSON with every run.
Peers are found by flags, or by the environment variables that their install scripts print; those
that are not given are left out, with a line on stderr. Exit status 1: an engine failed.
"""

import argparse
import json
import os
import pathlib
import shlex
import sys

import cpu_pressure
import engines
import report
import workload

ROOT = pathlib.Path(__file__).resolve().parents[3]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ours = parser.add_argument_group("kvec")
    ours.add_argument("--kvec", default=str(ROOT / "build/release/bin/kvec"), metavar="PROGRAM")
    ours.add_argument("--model", required=True, metavar="FILE", help="also llama.cpp's first")
    ours.add_argument("--kvec-flags", default="", metavar="'--FLAG …'", help="for kvec bench")

    llama = parser.add_argument_group("llama.cpp")
    llama.add_argument("--llama-bench", default=os.getenv("KVEC_LLAMA_BENCH"), metavar="PROGRAM")
    llama.add_argument(
        "--llama-model",
        action="append",
        default=os.getenv("KVEC_LLAMA_MODELS", "").split(),
        metavar="FILE",
        help="the model with other weight types too; may be given several times",
    )
    llama.add_argument("--llama-without-flash-attention", action="store_true", help="measure both")

    openvino = parser.add_argument_group("OpenVINO GenAI")
    openvino.add_argument("--openvino-python", default=os.getenv("KVEC_OPENVINO_PYTHON"))
    openvino.add_argument(
        "--openvino-model", default=os.getenv("KVEC_OPENVINO_MODEL"), metavar="DIR"
    )
    openvino.add_argument("--openvino-chunk-tokens", type=int, default=1024, metavar="N")

    vllm = parser.add_argument_group("vLLM")
    vllm.add_argument("--vllm-python", default=os.getenv("KVEC_VLLM_PYTHON"))
    vllm.add_argument("--vllm-model", default=os.getenv("KVEC_VLLM_MODEL"), metavar="DIR")
    vllm.add_argument("--vllm-chunk-tokens", type=int, default=2048, metavar="N")

    how = parser.add_argument_group("measurement")
    how.add_argument("--rounds", type=int, default=5)
    how.add_argument("--threads", type=int, default=2)
    how.add_argument(
        "--points",
        type=lambda keys: [workload.find_point(key) for key in keys.split(",")],
        default=list(workload.POINTS),
        metavar=",".join(point.key for point in workload.POINTS),
    )
    how.add_argument("--max-pressure", type=float, default=0.05, metavar="SHARE")
    how.add_argument("--json", metavar="FILE", help="where the JSON goes instead of stdout")
    return parser.parse_args()


def find_engines(args: argparse.Namespace) -> list[engines.Engine]:
    found: list[engines.Engine] = []
    if pathlib.Path(args.kvec).exists():
        flags = shlex.split(args.kvec_flags)
        found.append(engines.Kvec(args.kvec, args.model, args.threads, flags))
    else:
        skip("kvec", f"{args.kvec} does not exist")

    if args.llama_bench:
        flash = [True, False] if args.llama_without_flash_attention else [True]
        for model in [args.model, *args.llama_model]:
            found += [engines.LlamaCpp(args.llama_bench, model, args.threads, on) for on in flash]
    else:
        skip("llama.cpp", "neither --llama-bench nor KVEC_LLAMA_BENCH")

    for title, key in (("OpenVINO GenAI", "openvino"), ("vLLM", "vllm")):
        python, model = getattr(args, f"{key}_python"), getattr(args, f"{key}_model")
        if not python or not model:
            skip(title, f"--{key}-python or --{key}-model is not given")
            continue
        runner = "openvino_genai_runner.py" if key == "openvino" else "vllm_cpu_runner.py"
        flags = ["--chunk-tokens", str(getattr(args, f"{key}_chunk_tokens"))]
        found.append(engines.PythonPeer(title, runner, python, model, args.threads, flags))
    return found


def skip(engine: str, why: str) -> None:
    print(f"SKIPPED {engine}: {why}", file=sys.stderr)


def measure(args, compared: list[engines.Engine]) -> tuple[list[report.Run], bool]:
    """The runs, and whether all engines could be measured."""
    runs, all_measured = [], True
    for number in range(args.rounds):
        first = number % len(compared)
        for point in args.points:
            for engine in compared[first:] + compared[:first]:
                where = f"round {number + 1}, {point.title}, {engine.name}"
                try:
                    with cpu_pressure.CpuPressure() as pressure:
                        rate = engine.measure(point, seed=number + 1)
                except engines.EngineError as error:
                    print(f"FAILED {where}: {error}", file=sys.stderr)
                    all_measured = False
                    continue
                disturbance = pressure.disturbance
                runs.append(report.Run(engine.name, point, number + 1, rate, disturbance))
                print(
                    f"{where}: {rate:.1f} tokens/s, CPU pressure {disturbance.pressure:.1%}, "
                    f"other processes {disturbance.foreign:.1%}",
                    file=sys.stderr,
                )
    return runs, all_measured


def main() -> int:
    args = parse_arguments()
    compared = find_engines(args)
    if not compared:
        print("no engine to measure", file=sys.stderr)
        return 2
    runs, all_measured = measure(args, compared)
    names = [engine.name for engine in compared]
    result = report.Report("kvec", names, runs, args.max_pressure)
    print(result.markdown())
    text = json.dumps(result.as_json(), indent=2 if args.json else None, ensure_ascii=False)
    if args.json:
        pathlib.Path(args.json).write_text(text + "\n", encoding="utf-8")
    else:
        print(text)
    return 0 if all_measured else 1


if __name__ == "__main__":
    sys.exit(main())
