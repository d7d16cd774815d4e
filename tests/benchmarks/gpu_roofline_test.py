"""Hand-counted cases of the roofline, and whether its constants are the kernels'."""

import pathlib
import re
import unittest

import gpu_roofline
from cost_model import LLAMA_8B
from gpu_roofline import CARDS

ROOT = pathlib.Path(__file__).parents[2]


def constant(path, name):
    """The expression that a constexpr constant of a source file is set to."""
    text = (ROOT / path).read_text(encoding="utf-8")
    return re.search(rf"constexpr \w+ {name} = ([^;]+);", text).group(1)


class GpuRooflineTest(unittest.TestCase):

    def test_constants_are_those_of_the_kernels(self):
        self.assertEqual(int(constant("kernels/cuda/decode_attention.h", "kDecodeSplitEntries")),
                         gpu_roofline.SPLIT_ENTRIES)
        self.assertEqual(int(constant("worker/eviction/kvec.cc", "kScoringQueries")),
                         gpu_roofline.SCORING_QUERIES)
        prefill = "kernels/cuda/tensor_prefill.cu"
        warps = int(constant(prefill, "kWarps"))
        fragments = re.match(r"kDim <= 128 \? (\d)", constant(prefill, "kRowFragments")).group(1)
        entries = re.match(r"kDim <= 128 \? (\d+)", constant(prefill, "kEntries")).group(1)
        self.assertEqual(int(fragments) * int(constant(prefill, "kTile")), gpu_roofline.WARP_ROWS)
        self.assertEqual(warps * gpu_roofline.WARP_ROWS, gpu_roofline.ROWS)
        self.assertEqual(int(entries), gpu_roofline.ENTRIES)
        wgmma = "kernels/cuda/wgmma_prefill.cu"
        self.assertEqual(int(constant(wgmma, "kMaxConsumers")), gpu_roofline.WGMMA_GROUPS)
        self.assertEqual(int(constant(wgmma, "kTileEntries")), gpu_roofline.WGMMA_ENTRIES)
        self.assertEqual(int(constant(wgmma, "kStages")), gpu_roofline.WGMMA_STAGES)
        self.assertEqual(int(constant("kernels/cuda/wgmma.h", "kWarpgroupRows")),
                         gpu_roofline.WGMMA_ROWS)
        gather = "kernels/cuda/gather_entries.cu"
        self.assertEqual(int(constant(gather, "kThreads")) * int(constant(gather, "kPiecesPerThread"))
                         * int(constant(gather, "kPieceBytes")), gpu_roofline.GATHER_BYTES)
        self.assertEqual(int(constant(gather, "kSlicePieces")) * int(constant(gather, "kPieceBytes")),
                         gpu_roofline.GATHER_SLICE)
        scores = "kernels/cuda/window_scores.cu"
        self.assertEqual(int(constant(scores, "kQueries")), gpu_roofline.SCORE_QUERIES)
        self.assertEqual(constant(scores, "kThreadEntries"),
                         f"sizeof(Stored) == 4 ? 2 : {gpu_roofline.SCORE_ENTRIES}")
        self.assertEqual(constant(scores, "kStep"),
                         f"sizeof(Stored) == 4 ? 4 : {gpu_roofline.SCORE_STEP}")

    def test_registers_are_those_that_the_compiler_reports(self):
        report = (ROOT / "docs" / "cuda_kernels.md").read_text(encoding="utf-8")
        row = next(line for line in report.splitlines()
                   if f"TensorPrefillKernel<__nv_bfloat16, {gpu_roofline.HEAD_DIM}>" in line)
        registers = [int(cell.split(",")[0]) for cell in row.split("|")[4:7]]
        self.assertEqual(max(registers), gpu_roofline.PREFILL_REGISTERS)

    def test_bytes_of_decode_attention(self):
        # 2 sequences of 257 entries, 8 heads of 128 numbers, keys and values, 2 bytes; 2 splits of 32
        # query heads hold 130 floats, written and read.
        self.assertEqual(gpu_roofline.decode_bytes(LLAMA_8B, 2, 257),
                         (2 * 257 * 8 * 128 * 2 * 2, 2 * 2 * 32 * 2 * 130 * 4))

    def test_a_tile_of_prefill_attention(self):
        self.assertEqual(gpu_roofline.tile_flops(), 2 * 2 * 32 * 64 * 128)
        # 32 queries, 64 keys and 64 values of 256 bytes are read; a quarter of the latter was written.
        self.assertEqual(gpu_roofline.tile_shared_bytes(), (32 + 128) * 256 + 128 * 256 // 4)
        # An A100's multiprocessor does 1,024 multiply-adds a cycle.
        self.assertAlmostEqual(gpu_roofline.tile_cycles(CARDS[0])["tensor"], 512, delta=1)

    def test_a_tile_of_prefill_attention_by_wgmma(self):
        self.assertEqual(gpu_roofline.wgmma_flops(), 2 * 2 * 64 * 128 * 128)
        # 64 queries, 128 keys and 128 values of 256 bytes are read; half of the latter was written.
        self.assertEqual(gpu_roofline.wgmma_shared_bytes(), (64 + 256) * 256 + 128 * 256)
        # An H100's multiprocessor does 2,048 multiply-adds a cycle.
        self.assertAlmostEqual(gpu_roofline.wgmma_cycles(CARDS[1])["tensor"], 1024, delta=2)
        self.assertLessEqual(gpu_roofline.wgmma_block_bytes() + 1024, 227 << 10)

    def test_blocks_fit_into_registers_and_shared_memory(self):
        for card in CARDS:
            blocks = gpu_roofline.resident_blocks(card)
            self.assertGreaterEqual(blocks, 1)
            self.assertLessEqual(blocks * (gpu_roofline.block_shared_bytes() + 1024),
                                 card.shared_kib << 10)

    def test_no_prediction_beats_the_data_sheet(self):
        for card in CARDS:
            worst, best = reversed(gpu_roofline.prefill_shares(card))
            self.assertLess(worst, best)
            self.assertLessEqual(best, card.mma_share)
            worst, best = reversed(gpu_roofline.wgmma_shares(card))
            self.assertLess(worst, best)
            self.assertLess(best, 1)
            cache, _ = gpu_roofline.decode_bytes(LLAMA_8B, 8, 8192)
            self.assertLess(cache / card.memory,
                            gpu_roofline.decode_attention_time(card, LLAMA_8B, 8, 8192))
            for graph in (False, True):
                self.assertLess(sum(gpu_roofline.step_bytes(LLAMA_8B, 1024)) / card.memory,
                                gpu_roofline.step_time(card, LLAMA_8B, 1024, graph))

    def test_a_step_of_decode(self):
        # 218,103,808 parameters of a layer, and the head.
        weights, cache = gpu_roofline.step_bytes(LLAMA_8B, 1024)
        self.assertEqual(weights, 2 * (32 * 218_103_808 + 4096 * 128256))
        self.assertEqual(cache, 32 * 1024 * 4096)
        self.assertEqual(gpu_roofline.step_launches(LLAMA_8B), 32 * 10 + 4 + 4)

    def test_launches_of_a_step_are_those_that_the_simulator_counts(self):
        counts = "tests/worker/engine/cuda_engine_test.cc"
        for name, expected in (("kKernelsOfLayer", gpu_roofline.NUM_KERNELS),
                               ("kKernelsAround", gpu_roofline.KERNELS_AROUND),
                               ("kCopiesOfStep", gpu_roofline.COPIES),
                               ("kGraphsOfStep", gpu_roofline.GRAPHS)):
            self.assertEqual(int(constant(counts, name)), expected)

    def test_an_eviction_moves_keys_twice_and_values_once(self):
        self.assertEqual(gpu_roofline.score_bytes(LLAMA_8B, 1000), 1000 * 3 * 8 * 128 * 2)
        self.assertEqual(gpu_roofline.gather_bytes(LLAMA_8B), 2 * 1024 * 2 * 8 * 128 * 2)

    def test_what_a_thread_of_window_scores_does(self):
        # 8 queries and 4 entries, 8 numbers: each entry's are a load of 16 bytes and 8 conversions,
        # each query's two such loads.
        self.assertEqual(gpu_roofline.score_step(), (256, 256 + 32 + 4 + 16, 4 * 16 + 8 * 32))
        for card in CARDS:
            self.assertLess(gpu_roofline.score_bytes(LLAMA_8B, 32768) / card.memory,
                            gpu_roofline.score_time(card, LLAMA_8B, 32768))

    def test_the_page_is_what_the_model_says(self):
        path = ROOT / "docs" / "gpu_roofline.md"
        self.assertEqual(path.read_text(encoding="utf-8"), gpu_roofline.page(),
                         "tests/benchmarks/gpu_roofline.py > docs/gpu_roofline.md")


if __name__ == "__main__":
    unittest.main()
