#!/usr/bin/env python3
"""How fast the CUDA kernels could be at best, on paper: what they move and compute by their own algorithms,
against what data sheets promise. No card was used.

  gpu_roofline.py > docs/gpu_roofline.md
"""

import dataclasses

import cost_model
from cost_model import BUDGET, LLAMA_8B, WINDOW, ms, percent, table


@dataclasses.dataclass(frozen=True)
class Card:
    """Of a data sheet, but for mma_share and clock."""
    name: str
    memory: float        # bytes a second
    tensor_flops: float  # dense bf16
    multiprocessors: int
    shared_kib: int      # of a multiprocessor
    mma_share: float     # of tensor_flops that mma.sync reaches at most
    clock: float         # that tensor_flops stand for

    def tensor_rate(self):
        """Flops that mma.sync does in a cycle of a multiprocessor, at most."""
        return self.mma_share * self.tensor_flops / self.multiprocessors / self.clock


CARDS = (Card("A100 80GB SXM", 2.039e12, 312e12, 108, 164, 1.0, 1.41e9),
         Card("H100 SXM", 3.35e12, 989.4e12, 132, 228, 0.62, 1.83e9),
         Card("B200", 8e12, 2250e12, 148, 228, 0.31, 1.86e9))

# Of a multiprocessor of each of them.
REGISTERS = 65536
WARPS = 64
SCHEDULERS = 4
SHARED_BYTES_PER_CYCLE = 128  # also of loads from the first-level cache
LANES = 32
EXPONENTS_PER_CYCLE = 16

# What is assumed of kernels.
MEMORY_SHARE = 0.9     # of the data sheet's bandwidth that a kernel reaches which only reads
PRODUCT_SHARE = 0.85   # the same of cuBLASLt with one row
KERNEL_FLOOR = 2e-6    # no kernel takes less, however little it does
LAUNCH = 2.5e-6        # of the host's time
GAP, GRAPH_GAP = 1.0e-6, 0.5e-6  # between kernels of a stream, and of a graph
SCORE_END = 15         # instructions of a score and pass: scaling, what is visible, exponent, sum
ROUND_TRIP = 1.5e-6    # a read through a page table and the write that waits for it
WGMMA_SHARE = 0.8      # of the dense peak that large products by wgmma reach, within a card's power
PREFILL_SHARE = 0.5    # of the dense peak, of the whole prefill that an eviction is compared with

# Of the kernels; gpu_roofline_test.py finds them in the sources.
SPLIT_ENTRIES = 256    # decode_attention.h
SCORING_QUERIES = 8    # kvec.cc
ROWS, ENTRIES, WARP_ROWS, HEAD_DIM = 128, 64, 32, 128  # tensor_prefill.cu
PREFILL_REGISTERS = 255
WGMMA_ROWS, WGMMA_GROUPS, WGMMA_ENTRIES, WGMMA_STAGES = 64, 2, 128, 2  # wgmma.h, wgmma_prefill.cu
SCORE_QUERIES, SCORE_ENTRIES = 8, 4  # window_scores.cu, that a thread scores at once
SCORE_STEP = 8               # numbers of a dot product between its loads
GATHER_BYTES = 256 * 4 * 16  # that a block of gather_entries.cu moves at once
GATHER_SLICE = 8 * 16        # bytes of each entry that are one block's

SEQUENCES, DEPTH = 8, 8192
PROMPT = 32768
TARGET = 0.55          # of the dense bf16 peak, prefill attention
STEP_TARGET = 0.75     # of the bandwidth, a Step of decode


# Decode attention of one layer.

def decode_bytes(model, sequences, depth):
    """(keys and values, what splits write and their merge reads)"""
    splits = -(-depth // SPLIT_ENTRIES)
    cache = sequences * depth * model.layer_kv_bytes()
    state = sequences * model.num_heads * splits * (model.head_dim + 2) * 4
    return cache, 2 * state


def decode_attention_time(card, model, sequences, depth):
    cache, states = decode_bytes(model, sequences, depth)
    return (cache + states) / (MEMORY_SHARE * card.memory) + KERNEL_FLOOR + 2 * GAP


def decode_multiplications_time(card, model, sequences, depth, group=None):
    """float32 on the ordinary cores: a multiply-add per number and query head, one instruction to widen
    the number, and a half for the queries' 16-byte loads."""
    numbers = sequences * depth * model.layer_kv_bytes() / 2
    group = group or model.num_heads // model.num_kv_heads
    return numbers * (1.5 * group + 1) / (card.multiprocessors * SCHEDULERS * LANES * card.clock)


# Prefill attention, of one warp and tile.

def tile_flops():
    return 4 * WARP_ROWS * ENTRIES * HEAD_DIM


def tile_shared_bytes():
    """Queries, keys and values into fragments; the warp's part of copying keys and values."""
    read = (WARP_ROWS + 2 * ENTRIES) * HEAD_DIM * 2
    return read + 2 * ENTRIES * HEAD_DIM * 2 * WARP_ROWS // ROWS


def tile_cycles(card):
    """Cycles of a multiprocessor that a warp's tile takes of each of its parts."""
    weights = WARP_ROWS * ENTRIES
    # Per weight: scaling, comparing, exponent, summing, half of a conversion.
    softmax = weights * 4.5 / (SCHEDULERS * LANES)
    return {"tensor": tile_flops() / card.tensor_rate(),
            "shared": tile_shared_bytes() / SHARED_BYTES_PER_CYCLE,
            "exponents": weights / EXPONENTS_PER_CYCLE,
            "softmax": softmax}


def block_shared_bytes():
    return ((ROWS + 2 * ENTRIES) * (HEAD_DIM + 8) * 2) + ROWS * 4


def resident_blocks(card):
    by_registers = REGISTERS // (-(-PREFILL_REGISTERS // 8) * 8) // (ROWS // WARP_ROWS * LANES)
    by_shared = (card.shared_kib << 10) // (block_shared_bytes() + 1024)
    return min(by_registers, by_shared)


def prefill_shares(card):
    """Of the dense peak: if all parts overlap, and if the softmax overlaps with nothing."""
    cycles = tile_cycles(card)
    longest = max(cycles["tensor"], cycles["shared"])
    best = card.mma_share * cycles["tensor"] / longest
    alone = max(cycles["softmax"], cycles["exponents"])
    return best, best * longest / (longest + alone)


# Prefill attention by wgmma, of one warpgroup and tile.

def wgmma_flops():
    return 4 * WGMMA_ROWS * WGMMA_ENTRIES * HEAD_DIM


def wgmma_shared_bytes():
    """What products read of queries, keys and values; the warpgroup's part of copying keys and values."""
    read = (WGMMA_ROWS + 2 * WGMMA_ENTRIES) * HEAD_DIM * 2
    return read + 2 * WGMMA_ENTRIES * HEAD_DIM * 2 // WGMMA_GROUPS


def wgmma_cycles(card):
    weights = WGMMA_ROWS * WGMMA_ENTRIES
    rate = card.tensor_flops / card.multiprocessors / card.clock
    return {"tensor": wgmma_flops() / rate,
            "shared": wgmma_shared_bytes() / SHARED_BYTES_PER_CYCLE,
            "exponents": weights / EXPONENTS_PER_CYCLE,
            "softmax": weights * 4.5 / (SCHEDULERS * LANES)}


def wgmma_block_bytes():
    """Queries and two rings of tiles, whose barriers take as much as a swizzle's pattern."""
    numbers = WGMMA_GROUPS * WGMMA_ROWS + 2 * WGMMA_STAGES * WGMMA_ENTRIES
    return numbers * HEAD_DIM * 2 + 3 * 1024


def wgmma_shares(card):
    """Of the dense peak: as prefill_shares."""
    cycles = wgmma_cycles(card)
    longest = max(cycles["tensor"], cycles["shared"])
    best = WGMMA_SHARE * cycles["tensor"] / longest
    alone = max(cycles["softmax"], cycles["exponents"])
    return best, best * longest / (longest + alone)


def level_two_bandwidth(card, share):
    """Bytes a second of keys and values that blocks read at this share of the peak."""
    return share * card.tensor_flops / ROWS


# Eviction, of one layer.

def score_bytes(model, tokens):
    """Window scores read the keys twice, value norms the values once."""
    return tokens * model.layer_kv_bytes() * 3 / 2


def score_step():
    """(multiply-adds, instructions, bytes loaded) of a thread of window_scores.cu, for SCORE_STEP numbers:
    entries in 16 bits, to be widened, queries in float32, in loads of 16 bytes."""
    products = SCORE_QUERIES * SCORE_ENTRIES * SCORE_STEP
    loaded = SCORE_ENTRIES * SCORE_STEP * 2 + SCORE_QUERIES * SCORE_STEP * 4
    return products, products + SCORE_ENTRIES * SCORE_STEP + loaded // 16, loaded


def score_time(card, model, tokens):
    """Both passes: instructions, or loads from shared memory as if no two lanes ever shared one, or bytes."""
    scores = 2 * model.num_heads * SCORING_QUERIES * tokens
    steps = scores * model.head_dim / score_step()[0]
    instructions = steps * score_step()[1] + scores * SCORE_END
    clocks = max(instructions / (SCHEDULERS * LANES), steps * score_step()[2] / SHARED_BYTES_PER_CYCLE)
    return max(clocks / (card.multiprocessors * card.clock),
               score_bytes(model, tokens) / (MEMORY_SHARE * card.memory)) + 5 * GAP


def choice_time(card, model, tokens):
    """As docs/cost_model.md has it, with this card's memory and clock."""
    machine = cost_model.Machine(bandwidth=MEMORY_SHARE * card.memory,
                                 multiprocessor=64 * card.clock,
                                 instructions=SCHEDULERS * LANES * card.clock)
    return cost_model.gpu_choice_time(model, cost_model.Shape(1, 1), tokens - WINDOW, machine)


def gather_bytes(model):
    return 2 * BUDGET * model.layer_kv_bytes()


def gather_time(card, model):
    """A block for each slice of a head, which waits for each of its rounds."""
    rounds = BUDGET * GATHER_SLICE / GATHER_BYTES
    return max(rounds * ROUND_TRIP, gather_bytes(model) / (MEMORY_SHARE * card.memory))


def prefill_time(card, model, tokens):
    products = 2 * tokens * model.num_layers * model.layer_parameters
    attention = 2 * tokens * tokens * model.num_layers * model.num_heads * model.head_dim
    return (products + attention) / (PREFILL_SHARE * card.tensor_flops)


# A whole Step of decode, one sequence.

# Of a layer; decode attention's splits come on top. tests/worker/engine/cuda_engine_test.cc counts all of
# them, and what is around them, on the simulator.
NUM_PRODUCTS = 4
SMALL_KERNELS = {"RMSNorm": 2, "rotation and append": 1, "merge of splits": 1, "activation": 1}
NUM_SMALL = sum(SMALL_KERNELS.values())
NUM_KERNELS = NUM_SMALL + NUM_PRODUCTS + 1
KERNELS_AROUND = 4  # angles; RMSNorm and product of the head; sampling
COPIES = 4          # embedding, tables and sampling's tasks to the GPU, tokens back
GRAPHS = 3          # layers, head, sampling


def step_launches(model):
    return model.num_layers * NUM_KERNELS + KERNELS_AROUND + COPIES


def step_bytes(model, depth):
    """(weights, keys and values)"""
    weights = model.num_layers * model.layer_parameters + model.hidden * model.vocabulary
    return weights * model.weight_bytes, model.num_layers * depth * model.layer_kv_bytes()


def step_time(card, model, depth, graph):
    weights, cache = step_bytes(model, depth)
    small = model.num_layers * NUM_SMALL + KERNELS_AROUND - 1 + COPIES
    gaps = step_launches(model) * GAP
    if graph:
        gaps = (step_launches(model) - COPIES) * GRAPH_GAP + (GRAPHS + COPIES) * GAP
    of_device = (weights / (PRODUCT_SHARE * card.memory) + cache / (MEMORY_SHARE * card.memory)
                 + small * KERNEL_FLOOR + gaps)
    return of_device if graph else max(of_device, step_launches(model) * LAUNCH)


def products_part_of_loss(card, model, depth):
    """Of the time that a Step without a graph takes beyond its bytes."""
    bytes_alone = [num_bytes / card.memory for num_bytes in step_bytes(model, depth)]
    lost = step_time(card, model, depth, graph=False) - sum(bytes_alone)
    return bytes_alone[0] * (1 / PRODUCT_SHARE - 1) / lost


# The page.

def us(seconds):
    return f"{1e6 * seconds:,.0f}"


def mb(num_bytes):
    return f"{num_bytes / 1e6:,.1f}"


def card_table():
    return table(["", "memory, TB/s", "dense bf16, TFLOP/s", "multiprocessors",
                  "shared memory of one, KiB", "of the peak by mma.sync", "clock, GHz"],
                 [[c.name, f"{c.memory / 1e12:.2f}", f"{c.tensor_flops / 1e12:,.0f}",
                   c.multiprocessors, c.shared_kib, percent(c.mma_share), f"{c.clock / 1e9:.2f}"]
                  for c in CARDS])


def decode_table():
    rows = []
    for card in CARDS:
        cache, _ = decode_bytes(LLAMA_8B, SEQUENCES, DEPTH)
        time = decode_attention_time(card, LLAMA_8B, SEQUENCES, DEPTH)
        rows.append([card.name, us(cache / card.memory),
                     us(decode_multiplications_time(card, LLAMA_8B, SEQUENCES, DEPTH)), us(time),
                     percent(cache / card.memory / time)])
    return table(["", "bytes alone, µs", "instructions alone, µs", "predicted, µs",
                  "of the bandwidth"], rows)


def prefill_table():
    rows = []
    for card in CARDS:
        cycles = tile_cycles(card)
        best, worst = prefill_shares(card)
        rows.append([card.name, *(f"{cycles[part]:.0f}" for part in
                                  ("tensor", "shared", "exponents", "softmax")),
                     resident_blocks(card),
                     percent(resident_blocks(card) * ROWS // WARP_ROWS / WARPS),
                     f"{percent(worst)} – {percent(best)}",
                     "yes" if worst >= TARGET else "not safely" if best >= TARGET else "no"])
    return table(["", "tensor cores", "shared memory", "exponents", "softmax' instructions",
                  "blocks of a multiprocessor", "of its warps", "of the dense peak",
                  f"target of {percent(TARGET)}"], rows)


def wgmma_table():
    card = CARDS[1]
    cycles = wgmma_cycles(card)
    best, worst = wgmma_shares(card)
    return table(["", "tensor cores", "shared memory", "exponents", "softmax' instructions",
                  "of the dense peak"],
                 [[card.name, *(f"{cycles[part]:.0f}" for part in
                                ("tensor", "shared", "exponents", "softmax")),
                   f"{percent(worst)} – {percent(best)}"]])


def eviction_table():
    rows = []
    for card in CARDS:
        layers = LLAMA_8B.num_layers
        scores = layers * score_time(card, LLAMA_8B, PROMPT)
        choice = layers * choice_time(card, LLAMA_8B, PROMPT)
        gather = layers * gather_time(card, LLAMA_8B)
        prefill = prefill_time(card, LLAMA_8B, PROMPT)
        least = layers * (score_bytes(LLAMA_8B, PROMPT) - PROMPT * LLAMA_8B.layer_kv_bytes() / 2
                          + gather_bytes(LLAMA_8B)) / card.memory
        total = scores + choice + gather
        rows.append([card.name, ms(scores), ms(choice), ms(gather), ms(total), ms(least),
                     ms(prefill), percent(total / prefill)])
    return table(["", "scores and norms, ms", "choice, ms", "compaction, ms", "sum, ms", "each byte once, ms", "prefill, ms",
                  "of the prefill"], rows)


def step_table():
    rows = []
    for card in CARDS:
        for depth in (1024, 8192):
            bytes_alone = sum(step_bytes(LLAMA_8B, depth)) / card.memory
            eager, graph = (step_time(card, LLAMA_8B, depth, graph) for graph in (False, True))
            rows.append([card.name, f"{depth:,}", ms(bytes_alone), ms(eager), percent(bytes_alone / eager),
                         ms(graph), percent(bytes_alone / graph)])
    return table(["", "depth", "bytes alone, ms", "without a graph, ms", "of the bandwidth",
                  "with a graph, ms", "of the bandwidth"], rows)


PAGE = """# How fast the CUDA kernels could be

On paper. **Nothing here was measured on a card**: the kernels have only run on the host simulator. This page is
the output of `tests/benchmarks/gpu_roofline.py`; `tests/benchmarks/gpu_roofline_test.py` compares the two and
finds the kernels' constants in their sources. Registers and spills: `docs/cuda_kernels.md`.

{cards}

Memory, peak, multiprocessors and shared memory are the data sheets'. The clock is the one that the peak stands for.
**Assumed**: `mma.sync` reaches {hopper} of an H100's peak, which only `wgmma` reaches, and as much per cycle of a
B200's multiprocessor; {memory} of the bandwidth for a kernel that only reads, {product} for cuBLASLt with one row;
{floor} µs for the shortest kernel, {gap} µs between two of a stream and {graph_gap} µs of a graph, {launch} µs of
the host for a launch. The model is an 8B: 32 layers, 32 query heads, 8 KV heads of 128 numbers, bf16.

## Decode attention

One layer, {sequences} sequences, {depth:,} entries in every head: {cache} MB of keys and values, each read once for
its group of 4 query heads. Splits of {split} entries make {blocks:,} blocks and {states} MB of states, written and
read again ({state_share} of the bytes; most stay in the L2 cache). Two launches.

{decode}

- The arithmetic is float32 on the ordinary cores: less than the bytes' time with a group of 4, but not by far on a
  B200: with a group of 8 instructions would take {group_8} µs there, more than the bytes.
- A block scores, takes the softmax and then reads values, with barriers between: only other blocks fill these gaps.
  The prediction does not count that. A measured number will be lower. `docs/cost_model.md` takes 80 % for granted.

## Prefill attention

A block serves {rows} rows, tokens times the heads of a group, so it does {rows} flop for each byte of keys and values;
with 16 rows of one head it would be 16. A warp of {warp_rows} rows takes {flops:.2f} MFLOP for a tile of {entries} entries and moves
{shared_kib:.0f} KiB through shared memory: {shared_per_flop:.3f} bytes a flop. Cycles of a multiprocessor for that:

{prefill}

- The shares are a range: the larger if all parts overlap, the smaller if the softmax overlaps with nothing. With two
  warps per scheduler the truth lies between. Barriers, page tables and the causal edge are not counted: below 5 % of
  long prompts, more of short ones.
- FlashAttention-2 has the same structure. Its paper reports up to 73 % of an A100's peak, and FlashAttention-3's
  paper 35 % of an H100's for it. Expect no more.
- **A100**: the target is within reach. **H100**: hardly with `mma.sync`. The upper end of the range needs shared
  memory to be busy in {h100_shared} of the tensor cores' cycles: see `wgmma` below. **B200**: out of reach by far; its
  peak needs `tcgen05`.
- At the target blocks would read {l2} TB/s of keys and values. Most come from the L2 cache: blocks that
  run at the same time walk over the same heads. Data sheets do not say what the L2 cache gives; of the last two
  this may be too much, and would need more rows for a block.
- A chunk of 512 tokens makes 128 blocks, less than one for each of an H100's 132 multiprocessors. Chunks of 2,048
  make 512.
- Occupancy is bound by registers: {registers} of a thread, {block_kib:.0f} KiB of shared memory of a block.

### By wgmma

On compute capability 9.0, with heads of 64 and 128 numbers in 16 bits (`wgmma_prefill.cu`): products read keys and
values from shared memory by themselves, for 64 rows at once. A block has {wgmma_rows} rows, too, of two warpgroups; a third
one copies, by `cp.async`, because pages of 16 entries are small for TMA. A warpgroup takes {wgmma_flops:.2f} MFLOP for a tile of
{wgmma_entries} entries, for which {wgmma_kib:.0f} KiB pass through shared memory: {wgmma_per_flop:.3f} bytes a flop. Cycles of a multiprocessor:

{wgmma}

- **Assumed**: {wgmma_share} of the data sheet's peak is what power leaves of it in long products. The range is as above. The
  smaller number holds if the softmax overlaps with nothing; here it overlaps with the same warpgroup's products of the
  tile before, and with the other warpgroup's.
- FlashAttention-3 has this structure. Its paper gives 661 TFLOP/s ({fa3} of the peak) for heads of 128 numbers without
  a mask; 582 ({fa3_serial}) where the softmax waits for its own warpgroup's products, 570 ({fa3_alike}) where no warpgroup does
  nothing but copy. It has two things that this kernel has not: copies by TMA, and barriers by which two warpgroups take
  turns at the tensor cores. The target of {target} is within reach; whether it is met only a card can say.
- One block of 12 warps is resident: {wgmma_block_kib:.0f} KiB of shared memory, and all registers, 40 of a copying thread and
  232 of one with rows.
- Where the check at the start finds that results differ from those of `mma.sync`, the device takes that instead.

## An eviction after a prompt of {prompt:,} tokens

All {layers} layers; {budget:,} entries of each KV head are kept; the last {queries} queries score. Of each layer the keys are
read twice and the values once ({score_mb} MB), and what is kept is read and written ({gather_mb} MB). The choice is
that of `docs/cost_model.md`. The prefill that all is compared with runs at {prefill_share} of the peak.

{eviction}

- Scores are float32 on the ordinary cores. A thread has {score_queries} queries and {score_entries} entries at a time, so that {score_products} multiply-adds
  take {score_loads} loads: {score_instructions} instructions. These bind, or the loads, {score_load_bytes:.2f} bytes of a multiply-add, if no two
  lanes share one: about the same time. Tensor cores would need scores in fewer bits, and keep other entries.
- The choice runs in one block, because a head's scores depend on what the heads before have taken: one
  multiprocessor works, the others wait.
- Compaction has a block for every {slice_bytes} bytes of an entry, {gather_blocks} blocks: it waits for round trips, not for bytes.
- All of it is below 3 % of the prefill. Faster cards shorten the prefill more than the choice, whose share grows.

## A Step of decode, one sequence

{weights:.1f} GB of weights, {kv_small} or {kv_large} GB of keys and values at a depth of 1,024 or 8,192. {launches} launches
and copies: {per_layer} of each layer ({products} products), {others} around them; `cuda_engine_test` counts them on the simulator.
With CUDA graphs {graphs} launches and {copies} copies.

{step}

- Without a graph the host needs {host_ms} ms for its launches: less than the Step takes on any of these cards. A
  graph saves the gaps between kernels, and the host's time for other work.
- Small kernels cost as much as their number: {small} of a layer, each at the floor, {small_ms} ms in all. RMSNorm,
  activation and attention write what products take: a kernel that rounds before each product would be {products} more.
- `docs/cost_model.md` takes 80 % of the bandwidth for granted. One sequence does not reach it on faster cards. Of what
  is missing on an H100 without a graph, {products_part} are products of one row, the rest small kernels and gaps. More
  sequences share all of these.
- The target is {step_target}. On a B200 kernels of 2 µs would have to begin before the one before them ends
  (programmatic dependent launch): nothing here does.
"""


def page():
    cache, states = decode_bytes(LLAMA_8B, SEQUENCES, DEPTH)
    splits = -(-DEPTH // SPLIT_ENTRIES)
    weights, small_cache = step_bytes(LLAMA_8B, 1024)
    h100 = tile_cycles(CARDS[1])
    return PAGE.format(
        cards=card_table(), hopper=percent(CARDS[1].mma_share), memory=percent(MEMORY_SHARE),
        product=percent(PRODUCT_SHARE), floor=f"{1e6 * KERNEL_FLOOR:.0f}", gap=f"{1e6 * GAP:.0f}",
        graph_gap=f"{1e6 * GRAPH_GAP:.1f}", launch=f"{1e6 * LAUNCH:.1f}",
        sequences=SEQUENCES, depth=DEPTH, cache=mb(cache), split=SPLIT_ENTRIES,
        blocks=SEQUENCES * LLAMA_8B.num_kv_heads * splits, states=mb(states / 2),
        state_share=percent(states / (cache + states)), decode=decode_table(),
        rows=ROWS, warp_rows=WARP_ROWS, entries=ENTRIES, flops=tile_flops() / 1e6,
        shared_kib=tile_shared_bytes() / 1024, shared_per_flop=tile_shared_bytes() / tile_flops(),
        wgmma_rows=WGMMA_GROUPS * WGMMA_ROWS, wgmma_flops=wgmma_flops() / 1e6,
        wgmma_entries=WGMMA_ENTRIES, wgmma_kib=wgmma_shared_bytes() / 1024,
        wgmma_per_flop=wgmma_shared_bytes() / wgmma_flops(), wgmma=wgmma_table(),
        wgmma_share=percent(WGMMA_SHARE), wgmma_block_kib=wgmma_block_bytes() / 1024,
        fa3=percent(661e12 / CARDS[1].tensor_flops), target=percent(TARGET),
        fa3_serial=percent(582e12 / CARDS[1].tensor_flops),
        fa3_alike=percent(570e12 / CARDS[1].tensor_flops),
        prefill=prefill_table(), h100_shared=percent(h100["shared"] / h100["tensor"]),
        l2=" / ".join(f"{level_two_bandwidth(c, TARGET) / 1e12:.1f}" for c in CARDS),
        registers=PREFILL_REGISTERS, block_kib=block_shared_bytes() / 1024,
        prompt=PROMPT, layers=LLAMA_8B.num_layers, budget=BUDGET, queries=SCORING_QUERIES,
        score_mb=mb(score_bytes(LLAMA_8B, PROMPT)),
        gather_mb=mb(gather_bytes(LLAMA_8B)), prefill_share=percent(PREFILL_SHARE),
        eviction=eviction_table(), score_queries=SCORE_QUERIES, score_entries=SCORE_ENTRIES,
        score_products=score_step()[0], score_instructions=score_step()[1],
        score_loads=score_step()[2] // 16, score_load_bytes=score_step()[2] / score_step()[0],
        slice_bytes=GATHER_SLICE,
        gather_blocks=LLAMA_8B.layer_kv_bytes() // GATHER_SLICE,
        weights=weights / 1e9, kv_small=f"{small_cache / 1e9:.1f}",
        kv_large=f"{step_bytes(LLAMA_8B, 8192)[1] / 1e9:.1f}", launches=step_launches(LLAMA_8B),
        per_layer=NUM_KERNELS, products=NUM_PRODUCTS, others=KERNELS_AROUND + COPIES,
        graphs=GRAPHS, copies=COPIES, step_target=percent(STEP_TARGET),
        step=step_table(), host_ms=ms(step_launches(LLAMA_8B) * LAUNCH), small=NUM_SMALL,
        small_ms=ms(LLAMA_8B.num_layers * NUM_SMALL * KERNEL_FLOOR),
        products_part=percent(products_part_of_loss(CARDS[1], LLAMA_8B, 1024)),
        group_8=us(decode_multiplications_time(CARDS[2], LLAMA_8B, SEQUENCES, DEPTH, group=8)))


if __name__ == "__main__":
    print(page(), end="")
