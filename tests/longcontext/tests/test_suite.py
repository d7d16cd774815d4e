import asyncio
import json
import pathlib

import pytest
from kvec_eval import samples, suite
from kvec_eval.files import Files

SUITES = pathlib.Path(__file__).parents[1] / "suites"


def load(tmp_path, text):
    path = tmp_path / "suite.yaml"
    path.write_text(text)
    return suite.load(path)


@pytest.mark.parametrize("path", sorted(SUITES.glob("*.yaml")), ids=lambda path: path.name)
def test_suites_that_are_shipped_load(path):
    assert suite.load(path).name == path.stem


@pytest.mark.parametrize("text, message", [
    ("[]", "not a mapping"),
    ("name: [", "suite.yaml"),
    ("name: a\ntypo: 1", "unknown field 'typo'"),
    ("tasks: {words: 1}\nprompt_tokens: [9]", "name"),
    ("name: a", "neither tasks nor longbench nor samples"),
    ("name: a\ntasks: {words: 1}\nprompt_tokens: [9]\nturns: 0", "turns: 0"),
    ("name: a\ntasks: {words: 1}\nprompt_tokens: [9]\nturns: 2\nask_later: true",
     "turns: goes with"),
    ("name: a\nlongbench: {hotpot: 1}", "longbench: unknown 'hotpot'"),
    ("name: a\nlongbench: {hotpotqa: 0}", "longbench.hotpotqa: 0"),
    ("name: a\nlongbench: {trec: 1}\nmax_prompt_tokens: few", "max_prompt_tokens: 'few'"),
    ("name: a\ntasks: {words: 1}", "prompt_tokens: missing"),
    ("name: a\ntasks: {wrods: 1}\nprompt_tokens: [9]", "unknown 'wrods'"),
    ("name: a\ntasks: {words: -1}\nprompt_tokens: [9]", "tasks.words: -1"),
    ("name: a\ntasks: {words: 1}\nprompt_tokens: [many]", "'many' is not a number of tokens"),
    ("name: a\ntasks: {words: 1}\nprompt_tokens: [9]\ndepths: [2]", "2 is outside"),
    ("name: a\ntasks: [words]\nprompt_tokens: [9]", "tasks: not a mapping"),
    ("name: a\ntasks: {words: 1}\nprompt_tokens: [9]\nchat: perhaps", "chat: neither true"),
])
def test_a_bad_suite_names_what_is_wrong(tmp_path, text, message):
    with pytest.raises(suite.SuiteError, match=message):
        load(tmp_path, text)


SAMPLE = {"id": "a", "task": "niah", "context": "The number is 17.", "question": " Which?",
          "answer_prefix": " It is", "answer": " 17"}


def read_samples(tmp_path, lines, counts, tokenizer):
    path = tmp_path / "samples.jsonl"
    path.write_text("\n".join(lines))
    return asyncio.run(samples.load(path, counts, tokenizer))


def test_a_sample_becomes_its_context_question_and_prefix(tmp_path, tokenizer):
    lines = [json.dumps(SAMPLE | {"id": name}) for name in "abc"]
    first, second = read_samples(tmp_path, lines, {"niah": 2}, tokenizer)
    assert (first.id, second.id) == ("a", "b")
    assert bytes(first.prompt_ids) == b"The number is 17. Which? It is"
    assert (bytes(first.answer_ids), first.scored_from, first.forced) == (b" 17", 1, False)


def test_token_ids_of_a_sample_are_taken_as_they_are(tmp_path, tokenizer):
    line = json.dumps(SAMPLE | {"task": "lm", "prompt_ids": [1, 2], "answer_ids": [3]})
    (prompt,) = read_samples(tmp_path, [line], {"lm": 9}, tokenizer)
    assert (prompt.prompt_ids, prompt.answer_ids, prompt.forced) == ([1, 2], [3], True)


@pytest.mark.parametrize("line, counts, message", [
    ("{", {"niah": 1}, "jsonl:1: "),
    ("[]", {"niah": 1}, "id: missing"),
    (json.dumps(SAMPLE | {"answer": 17}), {"niah": 1}, "answer: missing or no string"),
    (json.dumps(SAMPLE), {"lines": 1}, "no samples of task 'lines'"),
])
def test_a_bad_samples_file_names_the_line(tmp_path, tokenizer, line, counts, message):
    with pytest.raises(samples.SamplesError, match=message):
        read_samples(tmp_path, [line], counts, tokenizer)


@pytest.mark.parametrize("files, message", [
    (Files(), "data.samples: missing; samples reads it"),
    (Files("/", {"samples": "no/such"}), "data.samples: /no/such is not there")])
def test_what_lacks_its_data_is_left_out_and_told(tokenizer, files, message):
    wanted = suite.Suite("s", prompt_tokens=[2000], tasks={"words": 1}, samples={"lm": 1})
    made, (error,) = asyncio.run(suite.make_prompts(wanted, tokenizer, files))
    assert [prompt.task for prompt in made] == ["words"]
    assert message in error


def test_prompts_without_chat_template_are_plain_text(tokenizer):
    plain = suite.Suite("s", prompt_tokens=[2000], tasks={"key_value": 1}, chat=False)
    (prompt,), _ = asyncio.run(suite.make_prompts(plain, tokenizer, Files()))
    text = bytes(prompt.prompt_ids).decode()
    assert "<user>" not in text
    assert "?\nThe special magic number" in text


def test_a_question_asked_later_is_no_part_of_the_prompt(tokenizer):
    tasks = {"key_value": 2, "continuation": 1}
    now, later = (
        asyncio.run(suite.make_prompts(
            suite.Suite("s", prompt_tokens=[2000], tasks=tasks, ask_later=ask_later), tokenizer,
            Files()))[0]
        for ask_later in (False, True))
    for asked_now, asked_later in zip(now, later):
        assert asked_now.prompt_ids == asked_later.prompt_ids + asked_later.asked_ids
        is_question = asked_now.task == "key_value"
        assert (b"What is" in bytes(asked_later.asked_ids)) == is_question
        assert b"What is" not in bytes(asked_later.prompt_ids)


def test_later_turns_ask_for_other_needles_of_the_same_text(tokenizer):
    wanted = suite.Suite("s", prompt_tokens=[3000], turns=3,
                         tasks={"several_keys": 1, "table": 1, "code": 1})
    made, _ = asyncio.run(suite.make_prompts(wanted, tokenizer, Files()))
    for prompt in made:
        text = bytes(prompt.prompt_ids).decode()
        answers = [prompt.answer, *(turn.answer for turn in prompt.turns)]
        assert len(set(answers)) == 3
        assert all(answer in text for answer in answers)
        for turn in prompt.turns:
            question = bytes(turn.ids).decode()
            assert question.startswith("<end><user>What is the ")
            assert not question.endswith(" ")
            assert bytes(turn.answer_ids).decode() == turn.answer


@pytest.mark.parametrize("task, count", [("words", 3), ("key_value", 2), ("vt", 2)])
def test_more_turns_than_a_task_has_questions_are_refused(tokenizer, task, count):
    wanted = suite.Suite("s", prompt_tokens=[3000], turns=count, tasks={task: 1})
    with pytest.raises(ValueError, match="turns: "):
        asyncio.run(suite.make_prompts(wanted, tokenizer, Files()))
