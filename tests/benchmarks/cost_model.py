#!/usr/bin/env python3
"""What a Step costs beyond this machine: an α-β model of kvec's communication, and rooflines of its
computing.

  cost_model.py > docs/cost_model.md
  cost_model.py --check trace.json --tp 2 --layers 30   does SmolLM2's trace (kvec trace, of decode
                                                        alone) have the messages and bytes that the
                                                        model counts? Exit code 1: no
"""

import argparse
import collections
import dataclasses
import json
import math
import sys

FLOAT_BYTES = 4      # of hidden states, scores and logits
SLICE_BYTES = 64 << 10  # sums of more than two ranks are made in slices from here on
WINDOW = 16          # observation window: never a candidate
BUDGET = 1024        # entries of a KV head that an eviction leaves


@dataclasses.dataclass(frozen=True)
class Model:
    name: str
    num_layers: int
    hidden: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    layer_parameters: float
    vocabulary: int
    weight_bytes: float = 2
    kv_bytes: float = 2

    def layer_kv_bytes(self):
        """Of a token, in one layer."""
        return 2 * self.num_kv_heads * self.head_dim * self.kv_bytes


def llama(name, num_layers, hidden, num_heads, num_kv_heads, head_dim, intermediate, vocabulary):
    attention = 2 * hidden * (num_heads + num_kv_heads) * head_dim
    return Model(name, num_layers, hidden, num_heads, num_kv_heads, head_dim,
                 attention + 3 * hidden * intermediate, vocabulary)


SMOLLM2 = llama("SmolLM2-135M", 30, 576, 9, 3, 64, 1536, 49152)
LLAMA_8B = llama("8B", 32, 4096, 32, 8, 128, 14336, 128256)
LLAMA_70B = llama("70B", 80, 8192, 64, 8, 128, 28672, 128256)


@dataclasses.dataclass(frozen=True)
class Link:
    """A message of n bytes takes alpha + n / beta seconds; both directions at once."""
    alpha: float
    beta: float


NVLINK = Link(8e-6, 0.8 * 450e9)  # alpha: a launch and a synchronisation
NETWORK = Link(15e-6, 0.9 * 50e9)  # 400 Gb/s, an adapter for each GPU
PCIE = Link(10e-6, 25e9)           # PCIe 5, half of it

# What a KV head's token takes in Policy::Select of `kvec`: policy_benchmark, 8 heads of 32,768.
SELECT_NS = 58
SELECT_PROCESSOR = "one Zen 3 core"

# The same on the GPU (kernels/cuda/cuda_entry_chooser.cc). Kernels and copies of a layer: for its scores
# and its heads' budgets, of the choice itself, which is beside the next layer's, and to move what is kept.
SCORE_OPERATIONS = 19
CHOICE_OPERATIONS = 2
MOVE_OPERATIONS = 3
# The one block that chooses reads a head's scores once. How often it goes over what it keeps of them in its
# shared memory: two digits and a mark, for free and for reserved slots. Instructions of both for a number.
CHOICE_PASSES = 6
READ_INSTRUCTIONS = 15
PASS_INSTRUCTIONS = 10


@dataclasses.dataclass(frozen=True)
class Machine:
    """One GPU and its links. What is assumed of them, and how much of a data sheet is reached."""
    bandwidth: float = 0.8 * 3.35e12   # H100 SXM: bytes of its memory a second
    flops: float = 0.5 * 990e12        # dense bf16
    ranks: Link = NVLINK
    stages: Link = NETWORK
    to_host: Link = PCIE
    select: float = 1e-9 * SELECT_NS   # host's seconds per (KV head, candidate)
    launch: float = 2e-6               # of a kernel or copy behind others
    multiprocessor: float = 64 * 1.7e9  # bytes a second that one reads from the L2 cache
    instructions: float = 128 * 1.7e9   # of a thread, that one does a second
    block_read: float = 1e-6           # of one block, beside its bytes: latency and barriers
    block_pass: float = 0.5e-6         # the same of what is in its shared memory


@dataclasses.dataclass(frozen=True)
class Shape:
    tp: int
    pp: int


# Messages: what one worker sends to all of its peers together, by the name of kvec trace's span.

def first_head(model, shape, rank):
    return model.num_heads * rank // shape.tp


def kv_heads(model, shape, rank):
    """KV heads that a rank holds: all that its query heads read."""
    big = model.num_heads % shape.tp
    size = model.num_heads // shape.tp
    begin = rank * size + min(rank, big)
    end = begin + size + (1 if rank < big else 0)
    group = model.num_heads // model.num_kv_heads
    return (end - 1) // group - begin // group + 1


def all_reduce_bytes(model, shape, rows):
    whole = rows * model.hidden * FLOAT_BYTES
    if shape.tp > 2 and whole >= SLICE_BYTES:
        return 2 * whole * (shape.tp - 1) // shape.tp
    return whole * (shape.tp - 1)


def messages(model, shape, stage, rank, num_layers, rows, logit_rows, draws, evictions=()):
    """{span: [count, bytes]} of a Step on one worker that holds num_layers layers. evictions: tokens of
    each sequence that `kvec` evicts from for the first time."""
    sent = collections.defaultdict(lambda: [0, 0])

    def add(name, count, num_bytes):
        if count:
            sent[name][0] += count
            sent[name][1] += num_bytes

    if shape.tp > 1:
        add("all-reduce", 2 * num_layers, 2 * num_layers * all_reduce_bytes(model, shape, rows))
    last = stage == shape.pp - 1
    if not last and rows:
        add("send", 1, rows * model.hidden * FLOAT_BYTES)
    if last and rank > 0:
        begin, end = (model.vocabulary * r // shape.tp for r in (rank, rank + 1))
        add("send", logit_rows, logit_rows * (end - begin) * FLOAT_BYTES)
    if last and rank == 0 and draws:
        others = shape.tp * shape.pp - 1
        add("send", others * math.ceil(draws / 256), others * draws * 4)
    for tokens in evictions:
        if shape.tp > 1:
            most = max(kv_heads(model, shape, r) for r in range(shape.tp))
            num_bytes = most * (tokens - WINDOW) * FLOAT_BYTES * (shape.tp - 1)
            add("all-gather", num_layers, num_layers * num_bytes)
        if not last:
            add("send", 1, 2 * (tokens + 1))
    return sent


# Times, in seconds, of the stage that takes longest.

def layers_of_stage(model, shape):
    return math.ceil(model.num_layers / shape.pp)


def all_reduce_time(model, shape, rows, link):
    """As NCCL sums: 2 (R - 1) / R of the data, one launch."""
    if shape.tp == 1:
        return 0
    return link.alpha + 2 * (shape.tp - 1) / shape.tp * rows * model.hidden * FLOAT_BYTES / link.beta


def communication_time(model, shape, rows, machine):
    time = 2 * layers_of_stage(model, shape) * all_reduce_time(model, shape, rows, machine.ranks)
    if shape.pp > 1:
        time += machine.stages.alpha + rows * model.hidden * FLOAT_BYTES / machine.stages.beta
    return time


def decode_time(model, shape, sequences, depth, machine):
    """Computing and communication of a Step of one micro-batch."""
    layers = layers_of_stage(model, shape)
    weights = layers * model.layer_parameters * model.weight_bytes / shape.tp
    head = model.hidden * model.vocabulary * model.weight_bytes / shape.tp
    cache = layers * sequences * depth * model.layer_kv_bytes() / min(shape.tp, model.num_kv_heads)
    computing = (weights + head + cache) / machine.bandwidth
    return computing, communication_time(model, shape, sequences, machine)


def prefill_time(model, shape, tokens, chunk, machine):
    """Of a prompt on an empty machine; stages work on chunks one after the other, so the first chunk
    waits for none and the last one passes all."""
    layers = layers_of_stage(model, shape)
    computing = communication = 0.0
    num_chunks = math.ceil(tokens / chunk)
    for i in range(num_chunks):
        rows = min(chunk, tokens - i * chunk)
        products = 2 * rows * layers * model.layer_parameters / shape.tp
        mean_depth = i * chunk + rows / 2
        attention = 4 * rows * mean_depth * layers * model.num_heads * model.head_dim / shape.tp
        weights = layers * model.layer_parameters * model.weight_bytes / shape.tp
        computing += max((products + attention) / machine.flops, weights / machine.bandwidth)
        communication += communication_time(model, shape, rows, machine)
    fill = 1 + (shape.pp - 1) / num_chunks
    return computing * fill, communication * fill


@dataclasses.dataclass(frozen=True)
class Eviction:
    scores: float        # window scores and value norms: keys and values are read once
    exchange: float      # of scores between ranks, of what is held between stages
    gpu_choice: float    # by every rank for all heads, and what is kept to the host
    host_choice: float   # in its place: all heads' scores to the processor, and the choice there

    def total(self):
        return self.scores + self.exchange + self.gpu_choice

    def total_by_host(self):
        return self.scores + self.exchange + self.host_choice


def gpu_choice_time(model, shape, candidates, machine):
    """Of a layer. One block chooses, head after head; beside it the other kernels have the rest of the
    GPU, and go over the means of a rank's query heads 3 times and over numbers of all KV heads 9 times."""
    numbers = candidates * (3 * model.num_heads / shape.tp + 9 * model.num_kv_heads)
    scoring = SCORE_OPERATIONS * machine.launch + numbers * FLOAT_BYTES / machine.bandwidth
    read = machine.block_read + candidates * max(FLOAT_BYTES / machine.multiprocessor,
                                                 READ_INSTRUCTIONS / machine.instructions)
    one_pass = machine.block_pass + candidates * PASS_INSTRUCTIONS / machine.instructions
    choosing = (CHOICE_OPERATIONS * machine.launch
                + model.num_kv_heads * (read + CHOICE_PASSES * one_pass))
    return max(scoring, choosing) + MOVE_OPERATIONS * machine.launch


def eviction_time(model, shape, tokens, machine):
    """Stage after stage: each waits for what the one before holds."""
    candidates = tokens - WINDOW
    cache = tokens * model.layer_kv_bytes() / min(shape.tp, model.num_kv_heads)
    exchange = 0.0
    if shape.tp > 1:
        most = max(kv_heads(model, shape, r) for r in range(shape.tp))
        exchange = machine.ranks.alpha + (
            most * candidates * FLOAT_BYTES * (shape.tp - 1) / machine.ranks.beta)
    rows = model.num_kv_heads * candidates
    handed_on = (shape.pp - 1) * (machine.stages.alpha + 2 * tokens / machine.stages.beta)
    scores_to_host = machine.to_host.alpha + rows * FLOAT_BYTES / machine.to_host.beta
    kept = model.num_layers * model.num_kv_heads * BUDGET
    kept_to_host = shape.pp * machine.to_host.alpha + kept * 4 / machine.to_host.beta
    return Eviction(scores=model.num_layers * cache / machine.bandwidth,
                    exchange=model.num_layers * exchange + handed_on,
                    gpu_choice=model.num_layers * gpu_choice_time(model, shape, candidates, machine)
                    + kept_to_host,
                    host_choice=model.num_layers * (scores_to_host + rows * machine.select))


# The page.

CASES = [
    ("8B, 8 GPUs, NVLink", LLAMA_8B, Shape(8, 1), Machine()),
    ("8B, 8 GPUs, 400 Gb/s", LLAMA_8B, Shape(8, 1), Machine(ranks=NETWORK)),
    ("70B, 2×8 GPUs", LLAMA_70B, Shape(8, 2), Machine()),
]


def ms(seconds):
    milliseconds = 1e3 * seconds
    return f"{milliseconds:.2f}" if milliseconds < 10 else f"{milliseconds:,.0f}"


def percent(share):
    return f"{100 * share:.1f} %" if share < 0.1 else f"{100 * share:.0f} %"


def table(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def decode_table():
    rows = []
    for name, model, shape, machine in CASES:
        for sequences, depth in ((8, 2048), (64, 512), (64, 8192)):
            computing, communication = decode_time(model, shape, sequences, depth, machine)
            step = computing + communication
            rows.append([name, sequences, f"{depth:,}", ms(computing), ms(communication),
                         percent(communication / step), f"{sequences / step:,.0f}"])
    return table(["", "sequences", "depth", "computing, ms", "communication, ms",
                  "communication's share", "tokens/s"], rows)


def eviction_table():
    rows = []
    for name, model, shape, machine in CASES:
        for tokens in (4096, 32768):
            computing, communication = prefill_time(model, shape, tokens, 2048, machine)
            eviction = eviction_time(model, shape, tokens, machine)
            prefill = computing + communication
            rows.append([name, f"{tokens:,}", ms(prefill), ms(eviction.scores),
                         ms(eviction.exchange), percent(eviction.exchange / prefill),
                         ms(eviction.gpu_choice), percent(eviction.total() / prefill),
                         ms(eviction.host_choice), percent(eviction.total_by_host() / prefill),
                         ms(saved_time(model, shape, tokens, machine))])
    return table(["", "tokens", "prefill, ms", "scores, ms", "exchange, ms", "of the prefill",
                  "choice on the GPU, ms", "whole eviction, of the prefill",
                  "choice on the host, ms", "whole eviction with it",
                  "saved a Step, ms"], rows)


def saved_time(model, shape, tokens, machine):
    """Of a Step of decode of the sequence, in which it reads its budget and not its prompt."""
    full = decode_time(model, shape, 1, tokens, machine)[0]
    return full - decode_time(model, shape, 1, BUDGET, machine)[0]


# Runs on CPU workers, for the page: name, then prefill, eviction and exchange in ms.
MEASURED = [
    ("one worker, two threads", 9824, 79, 0), ("one worker, two threads", 9506, 89, 0),
    ("two ranks, one thread each", 11843, 115, 38), ("two ranks, one thread each", 12048, 142, 33),
]


def measured_table():
    return table(["", "prefill, ms", "eviction, ms", "of the prefill", "exchange, ms",
                  "of the prefill"],
                 [[name, f"{prefill:,}", eviction, percent(eviction / prefill), exchange,
                   percent(exchange / prefill)] for name, prefill, eviction, exchange in MEASURED])


def count_table():
    """The same formulas on SmolLM2, where the communicator's counters are compared with them."""
    rows = []
    for tp, pp, layers in ((2, 1, [30]), (3, 1, [30]), (1, 2, [16, 14]), (2, 2, [16, 14])):
        for stage, num_layers in enumerate(layers):
            for rank in range(tp):
                sent = messages(SMOLLM2, Shape(tp, pp), stage, rank, num_layers, 4, 4, 4)
                rows.append([f"{tp}×{pp}", f"{stage}/{rank}",
                             *(f"{sent[span][0]}, {sent[span][1]:,}" for span in
                               ("all-reduce", "send"))])
    return table(["ranks×stages", "stage/rank", "all-reduce: messages, bytes",
                  "send: messages, bytes"], rows)


PAGE = """# What a Step costs beyond one machine

A model, and where its numbers come from. This page is the output of `tests/benchmarks/cost_model.py`;
`tests/benchmarks/cost_model_test.py` compares the two.

| number | is |
| --- | --- |
| how many messages, and how many bytes | counted, and checked: `tests/integration/trace_test.py` compares the formulas below with the counters of the real communicator (`sent_bytes` of `kvec trace`, `exchanged_bytes` of an answer), message by message, for 2×1, 3×1, 1×2 and 2×2 workers |
| what the choice of an eviction takes on the host | measured: {select_ns} ns for a KV head's token (`policy_benchmark`, `kvec`, {processor}) |
| what that choice takes on the GPU | counted passes and launches, times **assumed** |
| how long GPUs, NVLink, PCIe and networks take | **assumed** from data sheets, nothing measured: see the end |

## What is sent

With R ranks, P stages, n rows in a Step, hidden size H, vocabulary V, T tokens at an eviction, G KV heads of a rank:

| what | messages | bytes that one worker sends |
| --- | --- | --- |
| sums over ranks | 2 for each layer | 4·n·H·(R − 1); three or more ranks, 64 KiB or more: 2·4·n·H·(R − 1)/R, in two rounds |
| hidden states to the next stage | 1 | 4·n·H |
| logits to rank 0 of the last stage | 1 for each sampled row | 4·V/R |
| sampled tokens to all workers | R·P − 1 | 4 for each row |
| GPUs: what graph ranks launch, of a Step of generated tokens | 1, between hosts | 24·(R − 1) |
| `kvec`: scores | 1 for each layer | 4·G·(T − {window})·(R − 1) |
| `kvec`: what is held, to the next stage | 1 | 2·(T + 1) |

For example a Step of decode of 4 sequences on SmolLM2 (30 layers; 16 and 14 on two stages):

{counts}

## Decode

A message of b bytes takes α + b/β; computing as long as its bytes need from memory, or its products at the rate of
the tensor cores if that is longer. NCCL's sums move 2·(R − 1)/R of the data. One micro-batch on the stage that takes
longest; with two stages another one is on the other stage meanwhile, so 70B's tokens/s are of each of two
micro-batches. The hosts' message about graphs, once a Step, is not counted.

{decode}

{decode_words}

## Prefill and eviction

Prompts in chunks of 2,048 tokens; `kvec` with uniform layers, once at the prompt's end; {budget:,} entries per KV
head are left. Stages choose one after the other.

{eviction}

{eviction_words}

### Measured on CPU workers

SmolLM2, 4,096 tokens, `kvec` with a budget of 512, two Zen 3 cores, shared memory (`prefill_ms`, `eviction_ms`,
`exchange_ms` of `kvec generate --json`; two runs each, other processes were on the machine):

{measured}

## What is assumed

H100 SXM: {memory} of 3.35 TB/s, {tensor} of 990 TFLOP/s (dense bf16). NVLink 4: {nvlink} of 450 GB/s each way, α =
{nvlink_us:.0f} µs, a launch and a synchronisation. 400 Gb/s, one adapter for each GPU: {network} of it, α =
{network_us:.0f} µs. PCIe: {pcie:.0f} GB/s, α = {pcie_us:.0f} µs. A kernel behind others: {launch_us:.0f} µs; one block's read from the
L2 cache: {read_us:.0f} µs and its bytes at {multiprocessor:.0f} GB/s; its pass over shared memory: {pass_us:.1f} µs; {read_instructions} and {pass_instructions} instructions
of each number, {instructions:.0f}·10⁹ a second. Weights and cache in 16 bits, hidden states,
scores and logits in 32. Nothing else overlaps: neither sums with products nor an eviction with other requests' Steps.
"""


def decode_words():
    model, shape, machine = LLAMA_8B, Shape(8, 1), Machine()
    computing, communication = decode_time(model, shape, 8, 2048, machine)
    waiting = 2 * model.num_layers * machine.ranks.alpha
    return (f"- Decode of few rows is bound by α: of the {ms(computing + communication)} ms of an "
            f"8B model's Step with 8 sequences,\n  {2 * model.num_layers} sums of "
            f"{1e6 * machine.ranks.alpha:.0f} µs are {percent(waiting / (computing + communication))}."
            " More ranks than the memory asks for pay less and less;\n"
            "  `--parallel auto` takes the fewest.")


def eviction_words():
    exchange, whole, by_host = [], [], []
    for _, model, shape, machine in CASES:
        for tokens in (4096, 32768):
            prefill = sum(prefill_time(model, shape, tokens, 2048, machine))
            eviction = eviction_time(model, shape, tokens, machine)
            exchange.append(eviction.exchange / prefill)
            whole.append(eviction.total() / prefill)
            by_host.append(eviction.total_by_host() / prefill)
    return (f"- Reconciling what ranks hold costs {percent(min(exchange))} to "
            f"{percent(max(exchange))} of the prefill.\n"
            f"- The GPU chooses what `kvec` keeps: a whole eviction is {percent(min(whole))} to "
            f"{percent(max(whole))} of the prefill. Most of it is\n  that heads choose one after the "
            f"other, each with a read and {CHOICE_PASSES} passes of one block, beside the next layer's scores.\n"
            f"- The host's choice would make it {percent(min(by_host))} to {percent(max(by_host))}. "
            "That is still the way of a cache that was evicted\n  from before and of prompts that are "
            "read again. The other policies choose on the GPU too.\n"
            "- Where it can be measured, on CPU workers, all of it is small: see below.")


def page():
    machine = Machine()
    return PAGE.format(
        select_ns=SELECT_NS, processor=SELECT_PROCESSOR, window=WINDOW, budget=BUDGET,
        counts=count_table(), decode=decode_table(), decode_words=decode_words(),
        eviction=eviction_table(), eviction_words=eviction_words(), measured=measured_table(),
        memory=percent(machine.bandwidth / 3.35e12), tensor=percent(machine.flops / 990e12),
        nvlink=percent(machine.ranks.beta / 450e9), nvlink_us=1e6 * machine.ranks.alpha,
        network=percent(NETWORK.beta / 50e9), network_us=1e6 * NETWORK.alpha,
        pcie=machine.to_host.beta / 1e9, pcie_us=1e6 * machine.to_host.alpha,
        launch_us=1e6 * machine.launch, read_us=1e6 * machine.block_read,
        pass_us=1e6 * machine.block_pass, instructions=machine.instructions / 1e9,
        read_instructions=READ_INSTRUCTIONS, pass_instructions=PASS_INSTRUCTIONS,
        multiprocessor=machine.multiprocessor / 1e9)


# The check against a trace.

def rows_of_trace(path):
    """{(stage, rank): spans}"""
    with open(path, encoding="utf-8") as file:
        events = json.load(file)["traceEvents"]
    names = {event["tid"]: event["args"]["name"] for event in events
             if event["name"] == "thread_name"}
    rows = collections.defaultdict(list)
    for event in events:
        words = names.get(event["tid"], "").split()
        if event["ph"] == "X" and words and words[0] == "stage":
            rows[int(words[1]), int(words[3].rstrip(":"))].append(event)
    return rows


def measured_messages(spans):
    """{step: {span: [count, bytes]}} of one worker."""
    steps = {span["args"]["step"]: collections.defaultdict(lambda: [0, 0])
             for span in spans if span["name"] == "step"}
    for span in spans:
        if span["args"].get("sent_bytes") and span["args"]["step"] in steps:
            entry = steps[span["args"]["step"]][span["name"]]
            entry[0] += 1
            entry[1] += span["args"]["sent_bytes"]
    return steps


def check(path, shape, layers, model=SMOLLM2):
    """Compares Steps of decode, in which every row is sampled. Returns (Steps compared, faults)."""
    compared, faults = 0, []
    for (stage, rank), spans in sorted(rows_of_trace(path).items()):
        num_rows = {span["args"]["step"]: span["args"].get("rows", 0) for span in spans
                    if span["name"] == "step"}
        for step, measured in measured_messages(spans).items():
            rows = num_rows[step]
            expected = messages(model, shape, stage, rank, layers[stage], rows, rows, rows)
            compared += 1
            if dict(measured) != dict(expected):
                faults.append(f"step {step}, stage {stage}, rank {rank}, {rows} rows: "
                              f"{dict(measured)}, expected {dict(expected)}")
    return compared, faults


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", metavar="TRACE")
    parser.add_argument("--tp", type=int, default=1)
    parser.add_argument("--pp", type=int, default=1)
    parser.add_argument("--layers", type=int, nargs="+", help="of each stage")
    options = parser.parse_args()
    if options.check is None:
        print(page(), end="")
        return 0
    compared, faults = check(options.check, Shape(options.tp, options.pp), options.layers)
    print(f"{compared} Steps compared, {len(faults)} differ")
    for fault in faults[:10]:
        print(fault)
    return 1 if faults or not compared else 0


if __name__ == "__main__":
    sys.exit(main())
