"""A run's folder: run.json says what was asked of which model, prompts.jsonl holds the prompts'
expected answers, answers.jsonl one line per answer. Answers are only ever appended."""

import json
import os
import pathlib


class StoreError(Exception):
    """A folder that can't be used, and why."""


class Store:
    """Written by one run at a time; answers are looked up by prompt, policy and budget."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self._answers = {}
        self._file = None

    def open_for_run(self, suite, model):
        """Creates the folder, or takes up the run in it: of the same suite and the same weights."""
        self.folder.mkdir(parents=True, exist_ok=True)
        manifest = {"suite": suite, "model": model.name, "fingerprint": model.fingerprint,
                    "num_layers": model.num_layers, "num_kv_heads": model.num_kv_heads}
        path = self.folder / "run.json"
        if path.exists():
            before = json.loads(path.read_text())
            for field in ("suite", "fingerprint"):
                if before[field] != manifest[field]:
                    raise StoreError(f"{self.folder}: holds a run with {field} {before[field]}, "
                                     f"not {manifest[field]}; give another --out")
        else:
            path.write_text(json.dumps(manifest, indent=1) + "\n")
        self._answers = {_key(answer): answer for answer in self._read_answers(repair=True)}
        self._file = open(self.folder / "answers.jsonl", "a", encoding="utf-8")

    def write_prompts(self, prompts):
        """The prompts of this run, beside those of earlier ones."""
        path = self.folder / "prompts.jsonl"
        scratch = path.with_suffix(".tmp")
        known = {prompt["id"]: prompt for prompt in self.prompts()} if path.exists() else {}
        for prompt in prompts:
            known[prompt.id] = prompt.record()
        scratch.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n"
                                   for line in known.values()), encoding="utf-8")
        os.replace(scratch, path)

    def has(self, prompt, policy, budget):
        answer = self._answers.get((prompt.id, policy, budget))
        return answer is not None and answer["fingerprint"] == prompt.fingerprint()

    def add(self, prompt, policy, budget, target, answer):
        line = {"prompt": prompt.id, "policy": policy, "budget": budget, "target": target,
                "fingerprint": prompt.fingerprint(), **answer}
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._file.flush()
        self._answers[_key(line)] = line

    def close(self):
        if self._file is not None:
            self._file.close()

    def manifest(self):
        path = self.folder / "run.json"
        if not path.exists():
            raise StoreError(f"{self.folder}: no run.json; not the folder of a kvec-eval run")
        return json.loads(path.read_text())

    def prompts(self):
        text = (self.folder / "prompts.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def answers(self):
        """The last answer of each prompt, policy and budget, for the prompt as it is now."""
        current = {prompt["id"]: prompt["fingerprint"] for prompt in self.prompts()}
        latest = {_key(answer): answer for answer in self._read_answers(repair=False)}
        return [answer for answer in latest.values()
                if current.get(answer["prompt"]) == answer["fingerprint"]]

    def _read_answers(self, repair):
        """A run that was killed may have left half a line at the end: dropped, and cut off where
        the file is to be appended to."""
        path = self.folder / "answers.jsonl"
        if not path.exists():
            return []
        data = path.read_bytes()
        complete = data.rfind(b"\n") + 1
        if repair and complete < len(data):
            os.truncate(path, complete)
        return [json.loads(line) for line in data[:complete].decode().splitlines()]


def _key(answer):
    return answer["prompt"], answer["policy"], answer["budget"]
