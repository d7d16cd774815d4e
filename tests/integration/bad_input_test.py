"""Bad input gets an error that names the field, and the service goes on."""

import pathlib
import subprocess
import tempfile
import unittest

from service import DEADLINE_SECONDS, Service, ids, model_path, start

MODEL = model_path("smollm2")
PROMPT = ["--prompt", "Hello"]

# Arguments of kvec generate, and what its message must contain.
BAD_REQUESTS = [
    (["--prompt", ""], "text"),
    (["--token-ids", ids([49152])], "49152"),
    (["--token-ids", ids([4294967295])], "4294967295"),
    (["--token-ids", ids([5] * 9000)], "9000"),
    (["--prompt", "\udcff\udcfe"], "UTF-8"),  # Python's way to pass the bytes ff fe
    ([*PROMPT, "--temperature", "nan"], "temperature"),
    ([*PROMPT, "--temperature", "-1"], "temperature"),
    ([*PROMPT, "--temperature", "inf"], "temperature"),
    ([*PROMPT, "--top-p", "0"], "top_p"),
    ([*PROMPT, "--top-p", "1.5"], "top_p"),
    ([*PROMPT, "--min-p", "1"], "min_p"),
    ([*PROMPT, "--repetition-penalty", "0"], "repetition_penalty"),
    ([*PROMPT, "--frequency-penalty", "3"], "frequency_penalty"),
    ([*PROMPT, "--presence-penalty", "-3"], "presence_penalty"),
    ([*PROMPT, "--logit-bias", "49152=1"], "logit_bias"),
    ([*PROMPT, "--logit-bias", "5=nan"], "logit_bias"),
    ([*PROMPT, "--n", "0"], "sampling.n"),
    ([*PROMPT, "--n", "65"], "65"),
    ([*PROMPT, "--logprobs", "21", "--json"], "logprobs"),
    ([*PROMPT, "--stop-token-ids", "49152"], "stop_token_ids"),
    ([*PROMPT, "--forced-token-ids", "49152"], "forced_token_ids"),
    ([*PROMPT, "--max-tokens", "0"], "max_tokens"),
    ([*PROMPT, "--max-tokens", "1000000000"], "1000000000"),
    ([*PROMPT, "--max-tokens", "5", "--min-tokens", "6"], "min_tokens"),
    ([*PROMPT, "--policy", "none-such"], "none-such"),
    ([*PROMPT, *(["--stop", "x"] * 17)], "stopping.stop"),
]

# What is done to a good model file, and its name in messages.
DAMAGES = {
    "missing": lambda path, good: None,
    "empty": lambda path, good: path.write_bytes(b""),
    "cut in the header": lambda path, good: path.write_bytes(good[:1000]),
    "cut in the tensors": lambda path, good: path.write_bytes(good[:40_000_000]),
    "of another format": lambda path, good: path.write_bytes(b"GGML" + good[4:4096]),
    "of a huge tensor count": lambda path, good: path.write_bytes(
        good[:8] + b"\xff" * 8 + good[16:4096]),
}


class BadInputTest(unittest.TestCase):

    def test_bad_requests_are_refused_and_the_service_goes_on(self):
        with Service(MODEL) as service:
            before = service.generate(*PROMPT, "--temperature", 0, "--max-tokens", 8)
            pages = service.used_pages()
            for arguments, message in BAD_REQUESTS:
                with self.subTest(arguments=str(arguments)[:80]):
                    error = service.kvec("generate", *arguments, "--timeout", DEADLINE_SECONDS,
                                         exit_code=1).stderr
                    self.assertIn(message, error)
            with tempfile.NamedTemporaryFile() as large:
                large.write(b"word " * (20 << 20))
                large.flush()
                error = service.kvec("generate", "--prompt-file", large.name, exit_code=1).stderr
                self.assertIn("RESOURCE_EXHAUSTED", error)
            self.assertEqual(service.used_pages(), pages)
            after = service.generate(*PROMPT, "--temperature", 0, "--max-tokens", 8)
            self.assertEqual(after["token_ids"], before["token_ids"])

    def test_bad_model_files_end_every_program_with_a_message(self):
        good = pathlib.Path(MODEL).read_bytes()
        with tempfile.TemporaryDirectory() as folder:
            for name, damage in DAMAGES.items():
                path = pathlib.Path(folder) / "model.gguf"
                path.unlink(missing_ok=True)
                damage(path, good)
                for program, *flags in (["kvec-coordinator"], ["kvec-worker"], ["kvec", "bench"]):
                    with self.subTest(model=name, program=program):
                        process = start(program, *flags, "--model", path,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                        out, err = process.communicate(timeout=DEADLINE_SECONDS)
                        self.assertEqual(process.returncode, 1, err)
                        self.assertIn("kvec", err)
                        self.assertEqual(out, "")


if __name__ == "__main__":
    unittest.main(verbosity=2)
