import asyncio
import random

import pytest
from kvec_eval import needles, prompts, suite
from kvec_eval.files import Files


def make(task, tokenizer, length=3000, depth=0.5, seed=1):
    order = prompts.Order("p", 0, random.Random(seed), length, depth, tokenizer, Files())
    return asyncio.run(needles.TASKS[task](order))


RETRIEVAL = [name for name in needles.TASKS if name != "continuation"]


@pytest.mark.parametrize("task", needles.TASKS)
def test_a_prompt_has_about_the_wanted_length(task, tokenizer):
    for length in (2000, 9000):
        assert len(make(task, tokenizer, length).prompt_ids) == pytest.approx(length, rel=0.1)


@pytest.mark.parametrize("task", RETRIEVAL)
def test_the_answer_is_in_the_text_once_and_near_its_depth(task, tokenizer):
    for depth in (0.1, 0.5, 0.9):
        prompt = make(task, tokenizer, 9000, depth)
        text = bytes(prompt.prompt_ids).decode()
        assert text.count(prompt.answer.strip()) == 1
        assert text.index(prompt.answer.strip()) / len(text) == pytest.approx(depth, abs=0.15)


@pytest.mark.parametrize("task", needles.TASKS)
def test_the_same_seed_gives_the_same_prompt_and_another_seed_another(task, tokenizer):
    assert make(task, tokenizer, seed=1) == make(task, tokenizer, seed=1)
    assert make(task, tokenizer, seed=1) != make(task, tokenizer, seed=2)


def test_a_blank_first_token_of_the_answer_is_not_scored(tokenizer):
    prompt = make("key_value", tokenizer)
    assert (prompt.answer[0], prompt.scored_from) == (" ", 1)
    assert make("two_sentences", tokenizer).scored_from == 0


def test_a_question_that_does_not_fit_is_refused(tokenizer):
    with pytest.raises(ValueError, match="more than prompt_tokens 50"):
        make("key_value", tokenizer, length=50)


def test_more_prompts_of_a_task_leave_the_first_ones_as_they_are(tokenizer):
    def first(count):
        wanted = suite.Suite("s", seed=3, prompt_tokens=[2000], tasks={"words": count, "code": 1})
        made, _ = asyncio.run(suite.make_prompts(wanted, tokenizer, Files()))
        return {prompt.id: prompt for prompt in made}

    few, many = first(1), first(3)
    assert len(many) == 4
    assert all(many[name] == prompt for name, prompt in few.items())
