#!/usr/bin/env python3
"""What the compiler says of every CUDA kernel: registers, spills, shared memory, and the occupancy that
these allow. Needs nvcc, no GPU.

    tests/gpu/kernel_report.py --out docs/cuda_kernels.md
"""

import argparse
import pathlib
import re
import resource
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
ARCHITECTURES = ("80", "90a", "100")
# Of a multiprocessor: registers, warps, blocks, bytes of shared memory (CUDA C++ Programming Guide,
# "Technical Specifications per Compute Capability"); of the latter a block takes 1 KiB beside its own.
REGISTERS, WARPS, BLOCKS = 65536, 64, 32
SHARED_BYTES = {"80": 164 << 10, "90a": 228 << 10, "100": 228 << 10}
BLOCK_SHARED_BYTES = 1 << 10
WARP_THREADS, REGISTER_UNIT = 32, 256  # registers are given to warps in units

ENTRY = re.compile(r"Compiling entry function '(\w+)'")
SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")
MAX_THREADS = re.compile(r"\.entry (\w+)\(.*?\.maxntid (\d+)", re.DOTALL)


def occupancy(registers, threads, shared_bytes, architecture):
    """Resident warps of a multiprocessor, of WARPS, as a share."""
    warps = -(-threads // WARP_THREADS)
    of_warp = -(-registers * WARP_THREADS // REGISTER_UNIT) * REGISTER_UNIT
    blocks = min(BLOCKS, WARPS // warps, REGISTERS // of_warp // warps,
                 SHARED_BYTES[architecture] // (shared_bytes + BLOCK_SHARED_BYTES))
    return blocks * warps / WARPS


def parse(ptx, log):
    """{mangled name: (threads, registers, stack, spilled, static shared bytes)}"""
    threads = {name: int(count) for name, count in MAX_THREADS.findall(ptx)}
    kernels, name, stack, spilled = {}, None, 0, 0
    for line in log.splitlines():
        if match := ENTRY.search(line):
            name, stack, spilled = match.group(1), 0, 0
        elif match := SPILLS.search(line):
            stack, spilled = int(match.group(1)), int(match.group(2)) + int(match.group(3))
        elif (match := USED.search(line)) and name:
            shared = SHARED.search(line)
            kernels[name] = (threads.get(name, 1024), int(match.group(1)), stack, spilled,
                             int(shared.group(1)) if shared else 0)
            name = None
    return kernels


def compile_kernels(nvcc, source, architecture, folder):
    ptx = folder / f"{source.stem}.{architecture}.ptx"
    subprocess.run([nvcc, "-std=c++20", "-O3", "-I", ROOT, f"-arch=compute_{architecture}", "-ptx",
                    "-o", ptx, source], check=True)
    ptxas = pathlib.Path(nvcc).resolve().parent / "ptxas"
    result = subprocess.run([ptxas, "-v", "-O3", f"-arch=sm_{architecture}", "-o", folder / "cubin",
                             ptx], check=True, capture_output=True, text=True)
    return parse(ptx.read_text(), result.stderr)


def readable(names):
    """Without namespaces and arguments: PrefillKernel<__half, 128>."""
    text = subprocess.run(["c++filt"], input="\n".join(names), check=True, capture_output=True,
                          text=True).stdout
    short = []
    for line in text.splitlines():
        line = re.sub(r"\(anonymous namespace\)::|kvec::(kernels::)?(cuda::)?", "", line)
        line = re.sub(r"^void ", "", line)
        depth = 0
        for end, letter in enumerate(line):  # the first "(" outside of <> begins the arguments
            depth += (letter == "<") - (letter == ">")
            if letter == "(" and depth == 0:
                line = line[:end]
                break
        short.append(re.sub(r"\((?:int|bool|unsigned int|kvec::\w+|\w+)\)(\d+)", r"\1", line))
    return dict(zip(names, short))


def table(results):
    """results: {(source, architecture): parse()}"""
    rows = ["| file | kernel | threads | " +
            " | ".join(f"sm_{a}: registers, spilled, warps" for a in ARCHITECTURES) + " | static shared |",
            "|" + " --- |" * (len(ARCHITECTURES) + 4)]
    for source in sorted({source for source, _ in results}):
        names = sorted(results[source, ARCHITECTURES[0]])
        shorts = readable(names)
        for name in sorted(names, key=lambda name: shorts[name]):
            cells = []
            for architecture in ARCHITECTURES:
                threads, registers, _, spilled, shared = results[source, architecture][name]
                share = occupancy(registers, threads, shared, architecture)
                cells.append(f"{registers}, {spilled}, {share:.0%}")
            rows.append(f"| `{source}` | `{shorts[name]}` | {threads} | {' | '.join(cells)} | {shared} |")
    return "\n".join(rows)


def report(results, seconds, nvcc):
    version = subprocess.run([nvcc, "--version"], check=True, capture_output=True,
                             text=True).stdout.split("release ")[1].split(",")[0]
    count = sum(len(kernels) for (_, a), kernels in results.items() if a == ARCHITECTURES[0])
    spilling = sum(1 for kernels in results.values() for kernel in kernels.values() if kernel[3])
    return f"""# What the compiler says of the CUDA kernels

Made by `tests/gpu/kernel_report.py` with nvcc {version}; no card is needed, and none was used. {count} kernels
for each of {", ".join("sm_" + a for a in ARCHITECTURES)}, compiled in {seconds:.0f} s of one processor;
{spilling} of the {sum(map(len, results.values()))} spill.

Per architecture: registers of a thread, bytes spilled (stores and loads), and the share of a
multiprocessor's {WARPS} warps that can be resident, by registers, threads and static shared memory. Attention
and window scores ask for dynamic shared memory too, by head_dim, which may leave fewer. `WgmmaPrefillKernel` is
empty but on sm_90a, where its warpgroups divide their registers anew: 40 of a thread that copies, 232 of the others.

{table(results)}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--nvcc", default=shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc")
    parser.add_argument("--out", type=pathlib.Path, help="Markdown file (default: standard output)")
    options = parser.parse_args()
    if not pathlib.Path(options.nvcc).exists():
        sys.exit("kernel_report.py: no nvcc; deploy/local/fetch_cuda.sh compiler fetches one")
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for source in sorted((ROOT / "kernels/cuda").glob("*.cu")):
            for architecture in ARCHITECTURES:
                results[source.name, architecture] = compile_kernels(
                    options.nvcc, source, architecture, pathlib.Path(folder))
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    text = report(results, usage.ru_utime + usage.ru_stime, options.nvcc)
    if options.out:
        options.out.write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
