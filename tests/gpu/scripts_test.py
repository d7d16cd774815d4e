"""run.sh's scripts, on a machine without a GPU."""

import json
import os
import pathlib
import subprocess
import tempfile
import unittest

import kernel_report
import make_random_model
import report


def result(name, seconds, **counters):
    return {"name": name + "_median", "aggregate_name": "median", "real_time": seconds * 1e9,
            "time_unit": "ns", **counters}


KERNELS = {"benchmarks": [
    result("CopyCeiling/manual_time", 1e-3, bytes_per_second=2e12),
    result("Product/rows:8192/out:8192/in:8192/manual_time", 1e-3, flops=8e14, bytes_per_second=1e11),
    result("DecodeAttention/sequences:8/entries:8192/manual_time", 2e-4, bytes_per_second=1.5e12),
    {**result("RmsNorm/rows:1/manual_time", 1, bytes_per_second=1), "error_occurred": True},
]}
POINT = {"phase": "prefill", "prompt_tokens": 32000, "depth": 0, "batch": 1, "policy": "kvec",
         "tokens_per_second": 9000.4, "min": 8900, "max": 9100, "kv_bytes": 1 << 28, "eviction_share": 0.021}


class ReportTest(unittest.TestCase):

    def test_kernels_stand_beside_the_cards_ceilings(self):
        rows = report.kernel_rows(report.medians(KERNELS))
        self.assertEqual(len(rows), 3)  # what failed has no row
        decode = rows[2]
        self.assertEqual(decode["name"], "DecodeAttention/sequences:8/entries:8192")
        self.assertAlmostEqual(decode["share_of_copy"], 0.75)
        self.assertAlmostEqual(decode["microseconds"], 200)
        self.assertIsNone(decode["teraflops"])
        text = report.report("a card", rows, [POINT])
        self.assertIn("| DecodeAttention/sequences:8/entries:8192 | 200.0 | 1500 | 75% | – | – |", text)
        self.assertIn("| prefill | 32000 | 0 | 1 | kvec | 9000 (8900, 9100) | 256 MiB | 2.1% |", text)


class BenchmarkTest(unittest.TestCase):

    def test_measures_every_kernel_on_the_simulator(self):
        program = pathlib.Path(os.environ["KVEC_BIN"]) / "gpu_benchmark_simulated"
        if not program.exists():
            self.skipTest("built without CUDA's headers")
        with tempfile.TemporaryDirectory() as folder:
            results = pathlib.Path(folder) / "kernels.json"
            subprocess.run([program, "--benchmark_min_time=0", "--benchmark_repetitions=2",
                            "--benchmark_report_aggregates_only", f"--benchmark_out={results}",
                            "--benchmark_out_format=json"], check=True, capture_output=True)
            medians = report.medians(json.loads(results.read_text()))
        rows = report.kernel_rows(medians)
        listed = subprocess.run([program, "--benchmark_list_tests"], check=True, capture_output=True,
                                text=True).stdout.split()
        self.assertEqual([name.removesuffix("/manual_time") for name in listed],
                         [row["name"] for row in rows])
        for row in rows:
            self.assertGreater(row["gigabytes_per_second"] or row["teraflops"], 0, row)


class KernelReportTest(unittest.TestCase):

    def test_occupancy_is_what_the_scarcest_resource_allows(self):
        # 128 threads are 4 warps. 32 registers: 1024 a warp, 64 warps. 168: 5376, 12 warps, 3 blocks.
        self.assertEqual(kernel_report.occupancy(32, 128, 0, "80"), 1)
        self.assertEqual(kernel_report.occupancy(168, 128, 0, "80"), 12 / 64)
        # 40 KiB and 1 more: 4 blocks of 164 KiB, 5 of 228.
        self.assertEqual(kernel_report.occupancy(32, 128, 40 << 10, "80"), 16 / 64)
        self.assertEqual(kernel_report.occupancy(32, 128, 40 << 10, "90a"), 20 / 64)

    def test_reads_the_compilers_words(self):
        ptx = ".visible .entry _Z6KernelPf(\n.param .u64 p\n)\n.maxntid 128, 1, 1\n{\n}"
        log = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Z6KernelPf' for 'sm_90a'
ptxas info    : Function properties for _Z6KernelPf
    16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 16 bytes cumulative stack size, 2048 bytes smem"""
        self.assertEqual(kernel_report.parse(ptx, log), {"_Z6KernelPf": (128, 40, 16, 20, 2048)})


class RandomModelTest(unittest.TestCase):

    def test_makes_a_model_that_kvec_reads(self):
        with tempfile.TemporaryDirectory() as folder:
            make_random_model.make("tiny", pathlib.Path(folder))
            kvec = pathlib.Path(os.environ["KVEC_BIN"]) / "kvec"
            plan = subprocess.run([kvec, "plan", "--model", folder, "--gpu-memory", "4GiB", "--weights", "file"],
                                  check=True, capture_output=True, text=True).stdout
            self.assertIn("2 layers, 4 query and 2 KV heads of 16", plan)

    def test_the_large_one_has_the_shape_it_says(self):
        numbers = 0
        for _, dimensions in make_random_model.tensors(make_random_model.SHAPES["8b"]):
            count = 1
            for dimension in dimensions:
                count *= dimension
            numbers += count
        self.assertEqual(numbers, 8_030_261_248)  # Llama 3.1 8B's


if __name__ == "__main__":
    unittest.main()
