"""kvec-eval against services of a test: the command itself, and what it has stored."""

import json
import pathlib
import subprocess
import sys

import yaml

TIMEOUT_SECONDS = 1500
ROOT = pathlib.Path(__file__).parents[2]
HARNESS = ROOT / "tests/longcontext"
JOB = ROOT / "deploy/kubernetes/evaluation/job.yaml"


def kvec_eval(command, *arguments, host=None):
    """Runs it to its end, in the network namespace `host` if given; its standard output."""
    inside = ["ip", "netns", "exec", host] if host else []
    done = subprocess.run([*inside, sys.executable, "-m", "kvec_eval.cli", command, *map(str, arguments)],
                          cwd=HARNESS, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=TIMEOUT_SECONDS, check=False)
    if done.returncode != 0:
        raise AssertionError(f"kvec-eval {command} ended with {done.returncode}: {done.stderr[-4000:]}")
    return done.stdout


def job_arguments(name, suite, target, folder):
    """What the Kubernetes Job gives to kvec-eval in its container `name`, `run` or `report`, with another
    suite, target and folder."""
    job = next(yaml.safe_load_all(JOB.read_text()))
    pod = job["spec"]["template"]["spec"]
    container, = [container for container in pod["initContainers"] + pod["containers"]
                  if container["name"] == name]
    replaced = {"/opt/kvec/suites/": str(suite), "--target=": f"--target={target}",
                "--out=": f"--out={folder}", "/results/": str(folder)}

    def mine(argument):
        return next((value for start, value in replaced.items() if argument.startswith(start)), argument)

    return [mine(argument) for argument in container["args"]]


def answers(folder):
    """The stored answers by prompt, policy and budget."""
    lines = (pathlib.Path(folder) / "answers.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    by_cell = {(answer["prompt"], answer["policy"], answer["budget"]): answer for answer in found}
    assert len(by_cell) == len(found), "nothing is asked twice"
    return by_cell
