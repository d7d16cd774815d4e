"""The tools that the tests need, and kvec's programs."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ["KVEC_BIN"])
SKIPPED = 77  # the exit code that CTest takes for a skipped test


def skip(reason):
    """Ends the whole program: called before the tests begin."""
    print(f"SKIPPED: {reason}")
    sys.exit(SKIPPED)


def kubectl():
    """A kubectl that has Kustomize 5 or later."""
    path = shutil.which("kubectl")
    if path is None:
        skip("no kubectl; deploy/kubernetes/README.md says where it comes from")
    reply = subprocess.run([path, "version", "--client", "--output=json"], capture_output=True,
                           text=True, check=False)
    try:
        version = json.loads(reply.stdout).get("kustomizeVersion", "none")
    except json.JSONDecodeError:
        version = "none"
    if not re.match(r"v([5-9]|\d\d)\.", version):
        skip(f"{path} has Kustomize {version}, which must be 5 or later (kubectl 1.27)")
    return path


def promtool():
    third_party = pathlib.Path(os.environ.get("KVEC_THIRD_PARTY_DIR", ROOT / "build/third_party"))
    path = shutil.which("promtool") or third_party / "prometheus/usr/bin/promtool"
    if not pathlib.Path(path).exists():
        skip("no promtool; deploy/local/fetch_promtool.sh fetches it")
    return path


def run(*command):
    """Exit code and everything that was printed."""
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False, timeout=120)
    return done.returncode, done.stdout


def program(name):
    path = BIN / name
    if not path.exists():
        skip(f"{path} is not built")
    return path
