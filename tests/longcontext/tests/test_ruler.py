import asyncio
import collections
import json
import random
import re

import pytest
from kvec_eval import ruler_words, suite
from kvec_eval.files import Files
from kvec_eval.metrics import METRICS
from kvec_eval.prompts import Order
from kvec_eval.ruler import SIZED, TASKS
from kvec_eval.ruler_size import largest

# Of each task at 3,000 and 16,000 bytes: what a unit of its haystack has at most.
UNIT_BYTES = {"niah_multikey_3": 135, "vt": 90, "cwe": 90, "qa_1": 200, "qa_2": 200}


def squad(num_articles=9):
    """In SQuAD's layout: articles of two paragraphs, a question that has no answer among them."""
    def paragraph(name):
        answerable = {"question": f"What is {name}?", "answers": [{"text": f"thing {name}"}],
                      "is_impossible": False}
        impossible = {"question": "And if not?", "answers": [], "is_impossible": True}
        return {"context": f"The {name} is the thing {name}." + " Filling." * 12,
                "qas": [impossible, answerable]}

    return {"data": [{"paragraphs": [paragraph(f"{article}a"), paragraph(f"{article}b")]}
                     for article in range(num_articles)]}


def hotpotqa():
    return [{"question": f"Who is {i}?", "answer": f"person {i}",
             "context": [[f"Title {i}.{j}", [f"It is person {i}. ", "More text. " * 10]]
                         for j in range(3)]} for i in range(9)]


@pytest.fixture
def files(tmp_path):
    for name, content in (("squad", squad()), ("hotpotqa", hotpotqa())):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return Files(tmp_path, {"squad": "squad.json", "hotpotqa": "hotpotqa.json"})


@pytest.fixture
def make(tokenizer, files):
    def call(task, length=3000, seed=1, index=0, chat=True):
        order = Order("p", index, random.Random(seed), length, 0.5, tokenizer, files, chat)
        return asyncio.run(TASKS[task](order))

    return call


def text_of(prompt):
    return bytes(prompt.prompt_ids).decode()


def test_there_are_the_published_tasks():
    assert len(TASKS) == 13


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("length", [3000, 16000])
def test_prompt_and_answer_fit_the_length_and_little_is_left(make, task, length):
    prompt = make(task, length)
    whole = len(prompt.prompt_ids) + prompt.max_tokens
    assert length - max(0.005 * length, UNIT_BYTES.get(task, 120)) <= whole <= length


@pytest.mark.parametrize("task", TASKS)
def test_the_answers_are_in_the_context_which_does_not_end_with_them(make, task):
    prompt = make(task)
    context = text_of(prompt)
    assert prompt.references
    assert all(reference in context for reference in prompt.references)
    assert not context.endswith(prompt.references[-1])


@pytest.mark.parametrize("task", TASKS)
def test_the_same_seed_gives_the_same_prompt_and_another_seed_another(make, task):
    assert make(task, seed=1) == make(task, seed=1)
    assert make(task, seed=1).prompt_ids != make(task, seed=2).prompt_ids


@pytest.mark.parametrize("task", TASKS)
def test_a_perfect_answer_scores_one_and_a_wrong_one_nothing(make, task):
    prompt = make(task)
    score = METRICS[prompt.metric]
    assert score(prompt.record(), f" {prompt.answer}.".upper()) == 1
    assert score(prompt.record(), " none of them") == 0


@pytest.mark.parametrize("task, count", [
    ("niah_single_1", 1), ("niah_multikey_1", 1), ("niah_multivalue", 4), ("niah_multiquery", 4),
    ("vt", 5), ("cwe", 10), ("fwe", 3)])
def test_half_of_the_answers_is_half_the_score(make, task, count):
    prompt = make(task)
    assert len(prompt.references) == count
    half = " ".join(prompt.references[:count // 2])
    assert METRICS[prompt.metric](prompt.record(), half) == count // 2 / count


@pytest.mark.parametrize("task", [name for name in TASKS if name.startswith("niah")])
@pytest.mark.parametrize("length", [3000, 40000])
def test_each_fact_that_is_asked_for_is_there_once(make, task, length):
    context = text_of(make(task, length))
    facts = re.findall(r"One of the special magic \w+ for (\S+) is: (\S+)\.", context)
    values_of = collections.defaultdict(list)
    for key, value in facts:
        values_of[key].append(value)
    prompt = make(task, length)
    asked = [key for key in values_of if set(values_of[key]) & set(prompt.references)]
    question = context[context.rindex("What "):]
    assert all(key in question for key in asked)
    assert sorted(v for key in asked for v in values_of[key]) == sorted(prompt.references)


@pytest.mark.parametrize("task, keys, facts", [
    ("niah_single_3", 1, 1), ("niah_multikey_1", 4, 4), ("niah_multivalue", 1, 4),
    ("niah_multiquery", 4, 4)])
def test_needles_are_as_many_as_published(make, task, keys, facts):
    found = re.findall(r"One of the special magic \w+ for (\S+) is:", text_of(make(task)))
    assert (len(set(found)), len(found)) == (keys, facts)


def test_the_last_tasks_haystacks_are_needles(make):
    for task in ("niah_multikey_2", "niah_multikey_3"):
        lines = text_of(make(task)).splitlines()
        assert sum(line.startswith("One of the special magic") for line in lines) > 10


def test_the_variables_form_a_chain_in_the_text(make):
    prompt = make("vt")
    lines = text_of(prompt).splitlines()
    names = prompt.references
    chain = [f"VAR {names[0]} = ",
             *(f"VAR {new} = VAR {old}" for old, new in zip(names, names[1:]))]
    places = [next(i for i, line in enumerate(lines) if line.startswith(step)) for step in chain]
    assert places == sorted(places)
    assert text_of(prompt).count("Question:") == 2  # of the example, and its own


@pytest.mark.parametrize("length", [3000, 16000, 60000])
def test_the_common_words_are_the_most_frequent_of_the_list(make, length):
    prompt = make("cwe", length)
    listed = text_of(prompt).rsplit("most often.\n", 1)[1].split("\nQuestion")[0]
    words = re.findall(r"\d+\. (\S+)", listed)
    counts = collections.Counter(words)
    assert {word for word, _ in counts.most_common(10)} == set(prompt.references)
    times, others = (6, 1) if length < 4096 else (30, 3)
    assert {counts[word] for word in prompt.references} == {times}
    assert set(counts.values()) == {times, others}
    # A longer word that is right by accident would be a string match.
    assert not any(reference in word for word in counts for reference in prompt.references
                   if word != reference)


@pytest.mark.parametrize("length", [800, 3000, 16000])
def test_the_coded_words_are_the_most_frequent_but_for_the_dots(make, length):
    prompt = make("fwe", length)
    text = text_of(prompt).split("coded words. ")[1].split("\nQuestion")[0]
    ranked = collections.Counter(text.split()).most_common(5)
    assert [word for word, _ in ranked[:4]] == ["...", *prompt.references]
    assert ranked[3][1] > ranked[4][1]


def test_no_word_is_a_part_of_another():
    words = ruler_words.ADJECTIVES + ruler_words.NOUNS + ruler_words.VERBS
    assert len(words) == len(set(words))
    assert not [(a, b) for a in words for b in words if a != b and a in b]


@pytest.mark.parametrize("task, index, question", [
    ("qa_1", 0, "What is 0a?"), ("qa_1", 3, "What is 1b?"), ("qa_2", 4, "Who is 4?")])
def test_questions_come_in_the_files_order_with_their_documents(make, task, index, question):
    prompt = make(task, index=index)
    text = text_of(prompt)
    assert f"Question: {question}" in text
    assert len(re.findall(r"^Document \d+:$", text, re.MULTILINE)) > 5


def test_paragraphs_of_the_same_article_stand_beside_a_question_first(make):
    text = text_of(make("qa_1", 1000))
    assert "thing 0a" in text
    assert "thing 0b" in text


def test_without_chat_template_the_prompt_is_plain_text(make):
    assert "<user>" not in text_of(make("niah_single_1", chat=False))


def test_a_length_that_holds_no_question_is_refused(make):
    for task in SIZED:
        with pytest.raises(ValueError, match="more than the"):
            make(task, 200)


def test_tasks_without_their_files_are_left_out_and_told(tokenizer):
    wanted = suite.Suite("s", prompt_tokens=[3000], tasks={"qa_1": 2, "vt": 1, "qa_2": 2})
    made, errors = asyncio.run(suite.make_prompts(wanted, tokenizer, Files()))
    assert [prompt.task for prompt in made] == ["vt"]
    assert ["tasks.qa_1: data.squad: missing" in errors[0], len(errors)] == [True, 2]


@pytest.mark.parametrize("content", ["{", "[]", '{"data": [{}]}', '{"data": []}', "7"])
def test_a_bad_file_of_questions_is_told(tokenizer, tmp_path, content):
    (tmp_path / "squad.json").write_text(content)
    wanted = suite.Suite("s", prompt_tokens=[3000], tasks={"qa_1": 1})
    made, (error,) = asyncio.run(suite.make_prompts(
        wanted, tokenizer, Files(tmp_path, {"squad": "squad.json"})))
    assert made == []
    assert "squad.json: " in error


def test_the_largest_size_is_found_where_units_differ():
    sizes = [0]
    generator = random.Random(5)
    while len(sizes) < 3000:
        sizes.append(sizes[-1] + generator.choice((1, 2, 50)))
    for limit in (1, 17, 97, 513, 9001):
        async def ids_of(count):
            return range(sizes[min(count, 2999)])

        low, ids = asyncio.run(largest(ids_of, 0, limit, "p"))
        assert len(ids) == sizes[low] <= limit
        assert sizes[low + 1] > limit or limit - sizes[low] <= 0.005 * limit
