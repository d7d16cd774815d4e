"""kvec-eval against services of a test: the command itself, and what it has stored."""

import json
import pathlib
import subprocess
import sys

TIMEOUT_SECONDS = 1500
HARNESS = pathlib.Path(__file__).parents[1] / "longcontext"


def kvec_eval(command, *arguments, host=None):
    """Runs it to its end, in the network namespace `host` if given; its standard output."""
    inside = ["ip", "netns", "exec", host] if host else []
    done = subprocess.run([*inside, sys.executable, "-m", "kvec_eval.cli", command, *map(str, arguments)],
                          cwd=HARNESS, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=TIMEOUT_SECONDS, check=False)
    if done.returncode != 0:
        raise AssertionError(f"kvec-eval {command} ended with {done.returncode}: {done.stderr[-4000:]}")
    return done.stdout


def answers(folder):
    """The stored answers by prompt, policy and budget."""
    lines = (pathlib.Path(folder) / "answers.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    by_cell = {(answer["prompt"], answer["policy"], answer["budget"]): answer for answer in found}
    assert len(by_cell) == len(found), "nothing is asked twice"
    return by_cell
