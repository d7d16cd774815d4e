"""Hand-counted cases of the cost model. That workers really send so is tests/integration/trace_test.py's."""

import pathlib
import unittest

import cost_model
from cost_model import LLAMA_70B, LLAMA_8B, SMOLLM2, Link, Machine, Shape


class CostModelTest(unittest.TestCase):

    def test_parameters_are_those_of_the_models(self):
        self.assertAlmostEqual(LLAMA_8B.num_layers * LLAMA_8B.layer_parameters
                               + 2 * LLAMA_8B.hidden * LLAMA_8B.vocabulary, 8.03e9, delta=0.01e9)
        self.assertAlmostEqual(LLAMA_70B.num_layers * LLAMA_70B.layer_parameters
                               + 2 * LLAMA_70B.hidden * LLAMA_70B.vocabulary, 70.55e9, delta=0.01e9)
        self.assertEqual(LLAMA_8B.layer_kv_bytes(), 4096)

    def test_ranks_hold_the_kv_heads_that_their_query_heads_read(self):
        self.assertEqual([cost_model.kv_heads(SMOLLM2, Shape(2, 1), r) for r in range(2)], [2, 2])
        self.assertEqual([cost_model.kv_heads(SMOLLM2, Shape(3, 1), r) for r in range(3)], [1] * 3)
        self.assertEqual([cost_model.kv_heads(LLAMA_8B, Shape(8, 1), r) for r in range(8)], [1] * 8)

    def test_messages_of_a_decode_step(self):
        # 5 rows of 576 floats; 30 layers with two sums each.
        of_rank = [dict(cost_model.messages(SMOLLM2, Shape(2, 1), 0, r, 30, 5, 5, 5))
                   for r in (0, 1)]
        self.assertEqual(of_rank[0], {"all-reduce": [60, 60 * 5 * 576 * 4], "send": [1, 20]})
        self.assertEqual(of_rank[1], {"all-reduce": [60, 60 * 5 * 576 * 4],
                                      "send": [5, 5 * 24576 * 4]})
        of_stage = [dict(cost_model.messages(SMOLLM2, Shape(1, 2), s, 0, 15, 5, 5, 5))
                    for s in (0, 1)]
        self.assertEqual(of_stage, [{"send": [1, 5 * 576 * 4]}, {"send": [1, 20]}])

    def test_large_sums_of_many_ranks_go_in_slices(self):
        self.assertEqual(cost_model.all_reduce_bytes(LLAMA_8B, Shape(8, 1), 1), 7 * 16384)
        self.assertEqual(cost_model.all_reduce_bytes(LLAMA_8B, Shape(8, 1), 4), 2 * 4 * 16384 * 7 // 8)
        link = Link(alpha=1, beta=1e9)
        for rows in (1, 4):
            self.assertAlmostEqual(cost_model.all_reduce_time(LLAMA_8B, Shape(8, 1), rows, link),
                                   1 + 2 * rows * 16384 * 7 / 8 / 1e9)

    def test_messages_of_an_eviction(self):
        sent = cost_model.messages(SMOLLM2, Shape(2, 2), 0, 0, 16, 0, 0, 0, evictions=[1016])
        self.assertEqual(dict(sent), {"all-reduce": [32, 0], "all-gather": [16, 16 * 2 * 1000 * 4],
                                      "send": [1, 2 * 1017]})

    def test_more_links_and_bytes_take_longer(self):
        machine = Machine()
        one = cost_model.decode_time(LLAMA_8B, Shape(1, 1), 8, 2048, machine)
        eight = cost_model.decode_time(LLAMA_8B, Shape(8, 1), 8, 2048, machine)
        self.assertEqual(one[1], 0)
        self.assertAlmostEqual(one[0] / eight[0], 8, delta=1e-9)
        short = cost_model.prefill_time(LLAMA_70B, Shape(8, 2), 4096, 2048, machine)
        long = cost_model.prefill_time(LLAMA_70B, Shape(8, 2), 8192, 2048, machine)
        self.assertLess(2 * short[1] * 0.6, long[1])
        self.assertLess(short[0], long[0])


    def test_the_page_is_what_the_model_says(self):
        path = pathlib.Path(__file__).parents[2] / "docs" / "cost_model.md"
        self.assertEqual(path.read_text(encoding="utf-8"), cost_model.page(),
                         "tests/benchmarks/cost_model.py > docs/cost_model.md")


if __name__ == "__main__":
    unittest.main()
