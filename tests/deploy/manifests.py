"""Rendered manifests, and the pods in them."""

import copy
import functools
import subprocess

import yaml

import tools

KUBERNETES = tools.ROOT / "deploy" / "kubernetes"
OVERLAYS = sorted(path.parent.name for path in KUBERNETES.glob("overlays/*/kustomization.yaml"))
EVALUATIONS = ["evaluation", "evaluation-secured"]
DEPLOYMENTS = [f"overlays/{name}" for name in OVERLAYS] + EVALUATIONS


@functools.cache
def _rendered(folder):
    done = subprocess.run([tools.kubectl(), "kustomize", KUBERNETES / folder], capture_output=True,
                          text=True, check=False)
    if done.returncode != 0:
        raise AssertionError(f"{folder}: {done.stderr}")
    return done.stdout


def objects(folder):
    """What `kubectl apply -k` would create from this folder."""
    return [item for item in yaml.safe_load_all(_rendered(folder)) if item]


def of_kind(folder, kind):
    return [item for item in objects(folder) if item["kind"] == kind]


def templates(item):
    """[(name, pod template)] of an object."""
    spec = item.get("spec", {})
    if item["kind"] == "LeaderWorkerSet":
        spec = spec["leaderWorkerTemplate"]
        return [(f"{item['kind']}/{key}", spec[key])
                for key in ("leaderTemplate", "workerTemplate")]
    return [(item["kind"], spec["template"])] if "template" in spec else []


def pods(folder):
    """[(name, pod template)] of everything in the folder that makes pods."""
    return [(f"{folder}: {name}", template) for item in objects(folder)
            for name, template in templates(item)]


def containers(template):
    return template["spec"].get("initContainers", []) + template["spec"]["containers"]


def settings(folder):
    """The variables that pods get from ConfigMaps."""
    found = {}
    for item in of_kind(folder, "ConfigMap"):
        found.update(item["data"])
    return found


def arguments(folder, container):
    """A container's arguments as its process sees them."""
    variables = {"LWS_LEADER_ADDRESS": "kvec-0.kvec.kvec", **settings(folder)}
    found = []
    for argument in copy.copy(container.get("args", [])):
        for name, value in variables.items():
            argument = argument.replace(f"$({name})", value)
        found.append(argument)
    return found
