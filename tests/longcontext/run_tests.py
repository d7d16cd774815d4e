#!/usr/bin/env python3
"""Runs the harness's own tests with the Python that KVEC_TEST_PYTHON names: tests/run.sh installs
kvec-eval there. Exits with 77, a skip for CTest, where kvec-eval is not installed."""

import os
import pathlib
import subprocess
import sys

here = pathlib.Path(__file__).parent
python = os.environ.get("KVEC_TEST_PYTHON", sys.executable)
probe = subprocess.run([python, "-c", "import kvec.v1.inference_pb2, pytest"], capture_output=True,
                       check=False)
if probe.returncode != 0:
    print(f"SKIPPED: {python} has no kvec-eval; pip install 'tests/longcontext[test]'")
    sys.exit(77)
os.chdir(here)
os.execv(python, [python, "-m", "pytest", "-q", "-p", "no:cacheprovider"])
