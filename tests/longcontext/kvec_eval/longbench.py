"""LongBench, from its published layout: a folder with data/SUBSET.jsonl, and the project's
dataset2prompt.json and dataset2maxlen.json in it or in its config/."""

import dataclasses
import itertools
import json

from kvec_eval import metrics
from kvec_eval.files import DataError
from kvec_eval.prompts import Prompt


@dataclasses.dataclass(frozen=True)
class Subset:
    metric: str
    chat: bool = True             # few-shot and code prompts are to be continued as they are
    ends_with_line: bool = False  # the answer's first line is its last


SUBSETS = {
    **dict.fromkeys(("narrativeqa", "qasper", "multifieldqa_en", "hotpotqa", "2wikimqa", "musique"),
                    Subset("qa_f1")),
    "multifieldqa_zh": Subset("qa_f1_zh"),
    **dict.fromkeys(("gov_report", "qmsum", "multi_news"), Subset("rouge_l")),
    **dict.fromkeys(("dureader", "vcsum"), Subset("rouge_l_zh")),
    **dict.fromkeys(("trec", "lsht"), Subset("classification_first_line", chat=False)),
    "triviaqa": Subset("qa_f1_first_line", chat=False),
    "samsum": Subset("rouge_l_first_line", chat=False, ends_with_line=True),
    "passage_count": Subset("count"),
    **dict.fromkeys(("passage_retrieval_en", "passage_retrieval_zh"), Subset("retrieval")),
    **dict.fromkeys(("lcc", "repobench-p"), Subset("code_similarity", chat=False)),
}
MAX_CUTS = 5  # a text cut to n tokens may have a few more when it is read again


class LongBench:
    """The published files of one folder."""

    def __init__(self, folder):
        self._folder = folder
        self._templates = self._config("dataset2prompt.json", str)
        self._max_tokens = self._config("dataset2maxlen.json", int)

    async def prompts(self, counts, tokenizer, chat=True, max_prompt_tokens=None):
        """The first counts[subset] records of each, round-robin over the subsets."""
        made = [self._subset(name, count) for name, count in counts.items()]
        context_length = await tokenizer.context_length()
        result = []
        for record in filter(None, itertools.chain(*itertools.zip_longest(*made))):
            name = record["dataset"]
            limit = context_length - self._max_tokens[name]
            result.append(await self._prompt(record, tokenizer, chat and SUBSETS[name].chat,
                                             min(max_prompt_tokens or limit, limit)))
        return result

    def _config(self, name, kind):
        for path in (self._folder / name, self._folder / "config" / name):
            if path.exists():
                fields = _parse(path.read_text(encoding="utf-8"), path)
                break
        else:
            raise DataError(f"{self._folder}: no {name}, neither there nor in its config/")
        for subset in SUBSETS:
            if not isinstance(fields.get(subset), kind):
                raise DataError(f"{path}: {subset}: missing or no {kind.__name__}")
        return fields

    def _subset(self, name, count):
        path = self._folder / "data" / f"{name}.jsonl"
        if not path.exists():
            raise DataError(f"{path}: missing; LongBench's {name} is read there")
        records = []
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(itertools.islice(file, count), 1):
                record = _parse(line, f"{path}:{number}")
                _check(record, f"{path}:{number}", SUBSETS[name].metric)
                records.append({**record, "dataset": name, "id": f"{name}-{number - 1}"})
        if len(records) < count:
            raise DataError(f"{path}: {len(records)} records, {count} are wanted")
        return records

    async def _prompt(self, record, tokenizer, chat, limit):
        name = record["dataset"]
        try:
            text = self._templates[name].format(context=record["context"], input=record["input"])
        except (KeyError, IndexError, ValueError) as error:
            raise DataError(f"dataset2prompt.json: {name}: has more than {{context}} and {{input}}"
                            ) from error
        ids = await _fit(text, tokenizer, tokenizer.chat if chat else tokenizer.document, limit)
        stop_ids = (await tokenizer.text("\n"))[-1:] if SUBSETS[name].ends_with_line else []
        return Prompt(record["id"], name, ids, [], record["answers"][0], length=len(ids),
                      metric=SUBSETS[name].metric, references=record["answers"],
                      classes=record["all_classes"] or [], max_tokens=self._max_tokens[name],
                      stop_ids=stop_ids)


async def _fit(text, tokenizer, tokens_of, limit):
    """Token ids of the text with what tokens_of puts around it, at most `limit`: what is too much
    goes from the text's middle, since instructions stand at both ends."""
    ids = await tokens_of(text)
    if len(ids) <= limit:
        return ids
    text_ids = await tokenizer.text(text)
    kept = len(text_ids)
    for _ in range(MAX_CUTS):
        kept -= len(ids) - limit
        half = kept // 2
        if half < 1:
            break
        # Both texts are made of the whole one's tokens: nothing piles up from cut to cut.
        shorter = (await tokenizer.detokenize(text_ids[:half]) +
                   await tokenizer.detokenize(text_ids[-half:]))
        ids = await tokens_of(shorter)
        if len(ids) <= limit:
            return ids
    raise DataError(f"max_prompt_tokens: {limit} tokens hold no prompt")


def _parse(text, place):
    try:
        fields = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{place}: {error}") from error
    if not isinstance(fields, dict):
        raise DataError(f"{place}: no object")
    return fields


def _check(record, place, metric):
    for field in ("input", "context"):
        if not isinstance(record.get(field), str):
            raise DataError(f"{place}: {field}: missing or no string")
    if not _is_texts(record.get("answers")) or not record["answers"]:
        raise DataError(f"{place}: answers: no list of strings")
    if not _is_texts(record.get("all_classes") or []):
        raise DataError(f"{place}: all_classes: no list of strings")
    if metric == "retrieval" and not all(map(metrics.NUMBER.search, record["answers"])):
        raise DataError(f"{place}: answers: {record['answers']} name no paragraph")


def _is_texts(value):
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
