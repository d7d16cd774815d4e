#!/usr/bin/env python3
"""Runs one of the tests beside it with the Python that KVEC_TEST_PYTHON names, where tests/run.sh
installs requirements.txt. Exits with 77, a skip for CTest, where that is not installed."""

import os
import pathlib
import subprocess
import sys

here = pathlib.Path(__file__).parent
python = os.environ.get("KVEC_TEST_PYTHON", sys.executable)
probe = subprocess.run([python, "-c", "import jsonschema, kubernetes_validate, yaml"],
                       capture_output=True, check=False)
if probe.returncode != 0:
    print(f"SKIPPED: {python} lacks what tests/deploy/requirements.txt lists; pip install -r it")
    sys.exit(77)
os.execv(python, [python, str(here / sys.argv[1])])
