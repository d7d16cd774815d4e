"""The engines that are compared: each measures one point in a process of its own."""

import abc
import json
import os
import pathlib
import subprocess

import workload

TIMEOUT_SECONDS = 900
_HERE = pathlib.Path(__file__).resolve().parent


class EngineError(Exception):
    """The engine failed, or its output is not understood."""


class Engine(abc.ABC):
    """One engine with one model."""

    def __init__(self, name: str, threads: int):
        self.name = name
        self.threads = threads

    @abc.abstractmethod
    def command(self, point: workload.Point, seed: int) -> list[str]:
        """What to run; its standard output holds JSON."""

    def rate(self, lines: list[dict]) -> float:
        """Tokens per second from the JSON lines of the output."""
        return lines[-1]["tokens_per_second"]

    def measure(self, point: workload.Point, seed: int) -> float:
        command = self.command(point, seed)
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_SECONDS,
                env=os.environ | {"OMP_NUM_THREADS": str(self.threads)},
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise EngineError(str(error)) from error
        if done.returncode != 0:
            raise EngineError(f"exit status {done.returncode}: {done.stderr.strip()[-500:]}")
        objects = [line for line in done.stdout.splitlines() if line.startswith("{")]
        try:
            return float(self.rate([json.loads(line) for line in objects]))
        except (ValueError, KeyError, IndexError) as error:
            raise EngineError(f"output not understood: {done.stdout[-500:]!r}") from error


class Kvec(Engine):
    def __init__(self, binary: str, model: str, threads: int, flags: list[str]):
        super().__init__("kvec", threads)
        self._binary = binary
        self._model = model
        self._flags = flags

    def command(self, point, seed):
        if point.phase == "prefill":
            measured = ["--prompt-tokens", str(point.prompt_tokens)]
        else:
            measured = ["--depth", str(point.depth), "--batch", str(point.batch)]
            measured += ["--decode-tokens", str(workload.DECODE_TOKENS)]
        if point.budget is not None:
            measured += ["--policy", "kvec", "--budget", str(point.budget)]
        command = [self._binary, "bench", "--model", self._model, "--threads", str(self.threads)]
        command += ["--runs", "1", "--warmup-runs", "1", "--seed", str(seed), "--json"]
        return command + measured + self._flags


class LlamaCpp(Engine):
    """llama-bench for one stream and llama-batched-bench beside it for several, f16 KV cache."""

    def __init__(self, llama_bench: str, model: str, threads: int, flash_attention: bool):
        flash = "" if flash_attention else ", no flash attention"
        super().__init__(f"llama.cpp {pathlib.Path(model).stem}{flash}", threads)
        self._bench = pathlib.Path(llama_bench)
        self._model = model
        self._flash = "on" if flash_attention else "off"

    def command(self, point, seed):
        shared = ["-m", self._model, "-t", str(self.threads), "-fa", self._flash]
        tokens = str(workload.DECODE_TOKENS)
        if point.batch > 1:
            context = point.batch * (point.prompt_tokens + workload.DECODE_TOKENS)
            command = [str(self._bench.with_name("llama-batched-bench")), *shared]
            command += ["-tb", str(self.threads), "-c", str(context), "-b", "2048", "-ub", "512"]
            command += ["-npp", str(point.prompt_tokens), "-ntg", tokens, "-npl", str(point.batch)]
            return command + ["--output-format", "jsonl"]
        if point.phase == "prefill":
            measured = ["-p", str(point.prompt_tokens), "-n", "0"]
        else:
            measured = ["-p", "0", "-n", tokens, "-d", str(point.depth)]
        return [str(self._bench), *shared, *measured, "-r", "1", "-o", "jsonl"]

    def rate(self, lines):
        last = lines[-1]
        return last["speed_tg"] if "speed_tg" in last else last["avg_ts"]


class PythonPeer(Engine):
    """An engine with a Python interface, timed by a runner of ours in the engine's own Python."""

    def __init__(self, name: str, runner: str, python: str, model: str, threads: int, flags):
        super().__init__(f"{name} {pathlib.Path(model).name}", threads)
        self._command = [python, str(_HERE / runner), "--model", model, *flags]

    def command(self, point, seed):
        measured = ["--point", point.key, "--threads", str(self.threads), "--seed", str(seed)]
        return [*self._command, *measured]
