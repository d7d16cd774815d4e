"""LongBench's layout on disk, with records of our own."""

import asyncio
import json

import pytest
from kvec_eval import suite
from kvec_eval.files import DataError, Files
from kvec_eval.longbench import SUBSETS, LongBench
from kvec_eval.metrics import METRICS
from kvec_eval.service import Service

RECORD = {"input": "Who has {braces}?", "context": "Ann has them {context}.", "answers": ["Ann"],
          "length": 9, "dataset": "", "language": "en", "all_classes": None, "_id": "1"}


class Folder:
    """A folder in the published layout, written record by record."""

    def __init__(self, path, configs="."):
        self.path = path
        (path / "data").mkdir(parents=True)
        (path / configs).mkdir(exist_ok=True)
        for name, value in (("dataset2prompt", "Text: {context}\nAsk: {input}\nAnswer:"),
                            ("dataset2maxlen", 32)):
            (path / configs / f"{name}.json").write_text(json.dumps(dict.fromkeys(SUBSETS, value)))

    def write(self, subset, *records):
        (self.path / f"data/{subset}.jsonl").write_text(
            "".join(json.dumps({**RECORD, **record}) + "\n" for record in records))


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "LongBench")


def read(folder, counts, tokenizer, **limits):
    return asyncio.run(LongBench(folder.path).prompts(counts, tokenizer, **limits))


TEXT = "Text: Ann has them {context}.\nAsk: Who has {braces}?\nAnswer:"


def test_there_are_the_published_subsets():
    assert len(SUBSETS) == 21
    assert {subset.metric for subset in SUBSETS.values()} < METRICS.keys()


@pytest.mark.parametrize("subset", SUBSETS)
def test_a_record_becomes_the_published_prompt_and_its_answer_scores(folder, tokenizer, subset):
    reference, classes = "Paragraph 1", None
    if SUBSETS[subset].metric == "count":
        reference = "1"
    elif "classification" in SUBSETS[subset].metric:
        classes = ["Paragraph 1", "Paragraph 2"]
    folder.write(subset, {"answers": [reference], "all_classes": classes})
    (prompt,) = read(folder, {subset: 1}, tokenizer)
    assert (prompt.task, prompt.max_tokens) == (subset, 32)
    chat = subset not in ("trec", "triviaqa", "samsum", "lsht", "lcc", "repobench-p")
    expected = f"<user>{TEXT}<assistant>" if chat else TEXT
    assert bytes(prompt.prompt_ids).decode() == expected
    metric = METRICS[prompt.metric]
    assert metric(prompt.record(), reference) == pytest.approx(1)
    assert metric(prompt.record(), "none") < 0.3


def test_only_samsum_ends_with_its_line(folder, tokenizer):
    folder.write("samsum", {})
    folder.write("triviaqa", {})
    samsum, triviaqa = read(folder, {"samsum": 1, "triviaqa": 1}, tokenizer)
    assert (samsum.stop_ids, triviaqa.stop_ids) == ([ord("\n")], [])


def test_the_answer_may_be_as_long_as_published_and_ends_as_published(folder, tokenizer, inference,
                                                                      target):
    folder.write("samsum", {})
    folder.write("triviaqa", {})

    async def ask():
        service = Service(target)
        for prompt in await LongBench(folder.path).prompts({"samsum": 1, "triviaqa": 1}, tokenizer):
            await service.answer(prompt, "kvec", 64, slack_tokens=4)
        await service.close()

    asyncio.run(ask())
    samsum, triviaqa = inference.stopping
    assert (samsum.max_tokens, samsum.min_tokens) == (32, 1)
    assert list(samsum.stop_token_ids) == [ord("\n")]
    assert (triviaqa.max_tokens, list(triviaqa.stop_token_ids)) == (32, [])


def test_subsets_take_turns(folder, tokenizer):
    folder.write("qasper", {}, {}, {})
    folder.write("musique", {}, {})
    prompts = read(folder, {"qasper": 3, "musique": 1}, tokenizer)
    assert [prompt.id for prompt in prompts] == ["qasper-0", "musique-0", "qasper-1", "qasper-2"]


@pytest.mark.parametrize("subset", ["qasper", "lcc"])
@pytest.mark.parametrize("limit, length", [(None, 8000 - 32), (500, 500), (501, 501), (9000, 7968)])
def test_what_is_too_long_loses_its_middle(folder, tokenizer, subset, limit, length):
    text = "".join(f"{number:05} " for number in range(3000))
    folder.write(subset, {"context": text})
    (prompt,) = read(folder, {subset: 1}, tokenizer, max_prompt_tokens=limit)
    assert length - 1 <= len(prompt.prompt_ids) <= length
    kept = bytes(prompt.prompt_ids).decode().removeprefix("<user>").removesuffix("<assistant>")
    whole = f"Text: {text}\nAsk: Who has {{braces}}?\nAnswer:"
    half = len(kept) // 2
    assert (kept[:half], kept[half:]) == (whole[:half], whole[-half:])


def test_a_multibyte_character_that_is_cut_does_not_make_it_too_long(folder, tokenizer):
    folder.write("dureader", {"context": "北京大学" * 1000})
    for limit in (500, 501, 502, 503):
        (prompt,) = read(folder, {"dureader": 1}, tokenizer, max_prompt_tokens=limit)
        assert limit - 10 < len(prompt.prompt_ids) <= limit


def test_a_limit_that_holds_no_prompt_is_told(folder, tokenizer):
    folder.write("qasper", {})
    with pytest.raises(DataError, match="max_prompt_tokens: 17 tokens hold no prompt"):
        read(folder, {"qasper": 1}, tokenizer, max_prompt_tokens=17)


def test_the_config_files_may_be_in_their_own_folder(tmp_path, tokenizer):
    folder = Folder(tmp_path / "LongBench", "config")
    folder.write("qasper", {})
    assert len(read(folder, {"qasper": 1}, tokenizer)) == 1


@pytest.mark.parametrize("subset, record, message", [
    ("qasper", {"input": 1}, "qasper.jsonl:1: input: missing"),
    ("qasper", {"answers": []}, "answers: no list of strings"),
    ("qasper", {"answers": "Ann"}, "answers: no list of strings"),
    ("trec", {"all_classes": [1]}, "all_classes: no list"),
    ("passage_retrieval_en", {"answers": ["none"]}, "name no paragraph")])
def test_a_bad_record_names_line_and_field(folder, tokenizer, subset, record, message):
    folder.write(subset, record)
    with pytest.raises(DataError, match=message):
        read(folder, {subset: 1}, tokenizer)


def test_missing_files_and_records_are_named(folder, tokenizer):
    with pytest.raises(DataError, match="qasper.jsonl: missing"):
        read(folder, {"qasper": 1}, tokenizer)
    folder.write("qasper", {})
    with pytest.raises(DataError, match="1 records, 2 are wanted"):
        read(folder, {"qasper": 2}, tokenizer)
    (folder.path / "dataset2prompt.json").write_text(json.dumps(dict.fromkeys(SUBSETS, "{text}")))
    with pytest.raises(DataError, match="dataset2prompt.json: qasper: has more than"):
        read(folder, {"qasper": 1}, tokenizer)
    (folder.path / "dataset2maxlen.json").write_text('{"narrativeqa": "many"}')
    with pytest.raises(DataError, match="dataset2maxlen.json: narrativeqa: missing or no int"):
        read(folder, {"qasper": 1}, tokenizer)
    (folder.path / "dataset2maxlen.json").unlink()
    with pytest.raises(DataError, match="no dataset2maxlen.json"):
        read(folder, {"qasper": 1}, tokenizer)


def test_a_suite_names_the_folder_and_the_records(folder, tokenizer):
    folder.write("trec", {"all_classes": ["Ann"]})
    wanted = suite.Suite("s", longbench={"trec": 1}, data={"longbench": folder.path.name})
    files = Files(folder.path.parent, wanted.data)
    (prompt,), errors = asyncio.run(suite.make_prompts(wanted, tokenizer, files))
    assert (prompt.id, errors) == ("trec-0", [])
