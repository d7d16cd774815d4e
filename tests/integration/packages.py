"""Tests that need packages from PyPI run with the Python that KVEC_TEST_PYTHON names, where tests/run.sh
installs them."""

import importlib.util
import os
import sys

from service import SKIPPED


def _has(modules):
    try:
        return all(importlib.util.find_spec(module) for module in modules)
    except ModuleNotFoundError:  # of a parent package
        return False


def need(*modules):
    """Goes on with these modules: in this Python, or by running the program again in the other one. Else
    the whole program is skipped."""
    if _has(modules):
        return
    python = os.environ.pop("KVEC_TEST_PYTHON", None)
    if python is None:
        print(f"skipped: {sys.executable} lacks one of {', '.join(modules)}; see tests/run.sh")
        sys.exit(SKIPPED)
    os.execv(python, [python, *sys.argv])
