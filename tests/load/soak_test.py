"""A short soak: two workers die, nothing is left behind, and no golden answer changes."""

import os
import pathlib
import subprocess
import sys

SKIPPED = 77  # the exit code that CTest takes for a skipped test
HERE = pathlib.Path(__file__).resolve().parent


def main():
    python, model = os.environ.get("KVEC_TEST_PYTHON"), os.environ.get("KVEC_SMOLLM2_GGUF")
    if not python or not model:
        print("skipped: KVEC_TEST_PYTHON or KVEC_SMOLLM2_GGUF is not set; tests/run.sh sets both")
        return SKIPPED
    return subprocess.run([python, HERE / "soak.py", "--programs", os.environ["KVEC_BIN"], "--model", model,
                           "--minutes", "0.5", "--kill-seconds", "10"]).returncode


if __name__ == "__main__":
    sys.exit(main())
