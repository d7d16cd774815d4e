"""The whole service with `--device cuda`: on the host simulator, a worker answers as the CPU device does.

The kernels are kernels/cuda's own, compiled for the processor (tests/cusim). Models are tiny and random.
"""

import pathlib
import random
import subprocess
import sys
import unittest

from processes import wait_until
from service import BIN, SKIPPED, Service, ids, read_to_end, start

MODELS = pathlib.Path(__file__).parent.parent / "worker/model/tiny"
SIMULATED = "kvec-worker-simulated"
# Weights are bfloat16 on the GPU, and so are their inputs: log-probabilities differ by as much.
TOLERANCE = 0.06
CACHE = ["--kv-bytes", 4 << 20]  # f16
GPU = ["--device", "cuda", *CACHE]


def prompt(seed, length=60):
    return random.Random(seed).choices(range(3, 290), k=length)


def answer(service, prompt_ids, *arguments):
    return service.generate("--token-ids", ids(prompt_ids), "--temperature", 0, "--max-tokens", 12,
                            "--ignore-eos", "--logprobs", 2, *arguments)


HAS_NCCL = "--without-nccl" not in sys.argv
NO_NCCL = "this build has no nccl.h; PyPI's nvidia-nccl-cu13 has one"


class CudaTest(unittest.TestCase):

    def check_same(self, got, expected):
        """The same tokens up to the first near-tie, whose branch is the device's to choose; returns
        how many were compared."""
        for i, (ours, theirs) in enumerate(zip(got["logprobs"], expected["logprobs"])):
            best, second = (token["log_prob"] for token in theirs["top"])
            if got["token_ids"][i] != expected["token_ids"][i]:
                self.assertLess(best - second, 2 * TOLERANCE, f"token {i}")
                return i
            self.assertAlmostEqual(ours["top"][0]["log_prob"], best, delta=TOLERANCE,
                                   msg=f"token {i}")
        return len(expected["token_ids"])

    def answers(self, model, program, flags, shape=None):
        """Of three prompts at a time with the full cache, and of one that is evicted from."""
        with Service(MODELS / model, worker_program=program, worker_flags=flags,
                     shape=shape) as service:
            processes = [service.start_kvec(
                "generate", "--token-ids", ids(prompt(seed, 40 + 30 * seed)), "--temperature", 0,
                "--max-tokens", 12, "--ignore-eos", "--logprobs", 2, "--json") for seed in range(3)]
            full = [service.read_json(process) for process in processes]
            evicted = answer(service, prompt(9, 150), "--policy", "kvec", "--budget", 48)
            device = service.status()["workers"][0]["device"]
            self.assertEqual(service.status()["num_requests_running"], 0)
        return full, evicted, device

    def check_model(self, model, shape=None, flags=()):
        expected, expected_evicted, device = self.answers(model, "kvec-worker", [*CACHE, *flags])
        self.assertIn("cpu", device)
        got, got_evicted, device = self.answers(model, SIMULATED, [*GPU, *flags], shape)
        self.assertEqual(device, "cuda (host simulator)")
        compared = sum(map(self.check_same, got, expected))
        self.assertGreaterEqual(compared, 18)  # of 36: no tie makes it an empty test
        self.assertEqual(got_evicted["usage"]["evicted_tokens"],
                         expected_evicted["usage"]["evicted_tokens"])
        for ours, theirs in zip(got_evicted["usage"]["layers"],
                                expected_evicted["usage"]["layers"], strict=True):
            self.assertEqual(ours["kept_entries"], theirs["kept_entries"])
            self.assertAlmostEqual(ours["attention_mass"], theirs["attention_mass"], delta=0.02)

    @unittest.skipUnless(HAS_NCCL, NO_NCCL)
    def test_ranks_and_stages_answer_as_the_processor_does(self):
        """Their tensors go over NCCL's stand-in (tests/worker/comm/nccl)."""
        for model, shape in (("llama", (2, 1)), ("llama", (1, 2)), ("qwen3", (2, 2)),
                             ("gemma3", (2, 2))):
            with self.subTest(model=model, shape=shape):
                self.check_model(model, shape)

    def test_one_worker_answers_as_the_processor_does(self):
        for model in ("llama", "qwen2", "gemma3"):
            with self.subTest(model=model):
                self.check_model(model)

    def test_entries_in_int8_answer_as_the_processors_do(self):
        for model, shape in (("llama", None), ("gemma3", None), ("qwen3", (2, 1))):
            if shape is not None and not HAS_NCCL:
                continue
            with self.subTest(model=model, shape=shape):
                self.check_model(model, shape, ["--kv-type", "int8"])

    def test_weights_of_eight_bits_stay_near_those_of_sixteen(self):
        """By the first tokens' log-probabilities, in the mean: a number of int8 has up to 7 bits, one of
        e4m3 4."""
        for weights, tolerance in (("int8", 0.08), ("fp8", 0.25)):
            for model in ("llama", "gemma3"):
                with self.subTest(model=model, weights=weights):
                    self.check_weights(model, weights, tolerance)

    def check_weights(self, model, weights, tolerance):
        with Service(MODELS / model, worker_program=SIMULATED, worker_flags=GPU) as service:
            expected = answer(service, prompt(3))
        with Service(MODELS / model, worker_program=SIMULATED,
                     worker_flags=[*GPU, "--cuda-weights", weights]) as service:
            got = service.generate("--token-ids", ids(prompt(3)), "--temperature", 0, "--logprobs", 2,
                                   "--forced-token-ids", ids(expected["token_ids"]))
        self.assertEqual(got["token_ids"], expected["token_ids"])
        differences = [abs(ours["log_prob"] - theirs["log_prob"]) for ours, theirs in
                       zip(got["logprobs"], expected["logprobs"], strict=True)]
        self.assertLess(sum(differences) / len(differences), tolerance)
        self.assertGreater(max(differences), 1e-3)  # or they were the same weights

    def test_graphs_do_not_change_an_answer(self):
        """Of one GPU, and of ranks that have NCCL's sums in theirs."""
        for shape in (None, (2, 1)):
            if shape is not None and not HAS_NCCL:
                continue
            with self.subTest(shape=shape):
                got, got_evicted, _ = self.answers("gemma3", SIMULATED, GPU, shape)
                expected, expected_evicted, _ = self.answers(
                    "gemma3", SIMULATED, [*GPU, "--cuda-graphs=false"], shape)
                for ours, theirs in zip([*got, got_evicted], [*expected, expected_evicted], strict=True):
                    self.assertEqual(ours["logprobs"], theirs["logprobs"])

    @unittest.skipUnless(HAS_NCCL, NO_NCCL)
    def test_a_stream_goes_on_when_a_gpu_of_its_group_is_lost(self):
        """Its peers' streams wait in a collective: the communicators are aborted, and made anew."""
        request = ["--token-ids", ids(prompt(4)), "--temperature", 0.8, "--seed", 5, "--max-tokens", 100,
                   "--ignore-eos"]
        for shape in ((2, 1), (1, 2)):
            with self.subTest(shape=shape), Service(
                    MODELS / "llama", worker_program=SIMULATED, worker_flags=GPU,
                    shape=shape) as service:
                undisturbed = service.kvec("generate", *request).stdout
                for _ in range(service.num_workers):
                    process = service.start_kvec("generate", *request)
                    text = process.stdout.read(20)
                    service.kill_worker()
                    service.start_worker()
                    self.assertEqual(text + read_to_end(process), undisturbed)

    @unittest.skipUnless(HAS_NCCL, NO_NCCL)
    def test_a_group_of_gpu_and_processor_is_refused(self):
        with Service(MODELS / "llama", worker_program=SIMULATED, worker_flags=GPU,
                     num_workers=0, coordinator_flags=["--parallel", "tp=2"],
                     waits_until_ready=False) as service:
            service.start_worker()
            service.worker_program, service.worker_flags = "kvec-worker", CACHE
            service.start_worker()
            wait_until(lambda: "is a worker on a CPU, this one has a GPU" in service.log_text(),
                       "the refusal")


class NoGpuTest(unittest.TestCase):

    def test_a_worker_says_that_there_is_no_gpu(self):
        """Of this build, with or without CUDA; skipped where there is one."""
        if pathlib.Path("/dev/nvidiactl").exists():
            self.skipTest("this machine has a GPU")
        for program in ("kvec-worker", SIMULATED):
            with self.subTest(program=program):
                worker = start(program, "--model", MODELS / "llama", "--device", "cuda",
                               "--coordinator", "127.0.0.1:1", env={"KVEC_CUSIM_DEVICES": "0"},
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                _, err = worker.communicate(timeout=60)
                self.assertEqual(worker.returncode, 1)
                self.assertRegex(err, "this machine has no GPU|no CUDA compiler was found")


if __name__ == "__main__":
    if not (BIN / SIMULATED).exists():
        print("skipped: no CUDA headers; deploy/local/fetch_cuda.sh headers fetches them")
        sys.exit(SKIPPED)
    unittest.main(argv=[word for word in sys.argv if word != "--without-nccl"], verbosity=2)
