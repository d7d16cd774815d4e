"""RULER's questions over documents, from SQuAD's and HotpotQA's published JSON files on disk."""

import dataclasses
import functools
import itertools
import json

from kvec_eval import filler
from kvec_eval.files import DataError
from kvec_eval.ruler_size import Sized

INSTRUCTION = ("Answer the question by the given documents. Give me the answer only, and no other "
               "words.")


@dataclasses.dataclass(frozen=True)
class Question:
    text: str
    answers: list[str]
    documents: list[str]  # that it is about
    near: list[str]       # of the same article: the first to stand beside them


@functools.cache
def _squad(path):
    """Questions that can be answered, and every paragraph."""
    articles = [[paragraph["context"] for paragraph in article["paragraphs"]]
                for article in _read(path)["data"]]
    questions = []
    for article, contexts in zip(_read(path)["data"], articles):
        for paragraph in article["paragraphs"]:
            own = paragraph["context"]
            near = [context for context in contexts if context != own]
            questions.extend(
                Question(entry["question"], [answer["text"] for answer in entry["answers"]], [own],
                         near)
                for entry in paragraph["qas"] if not entry.get("is_impossible"))
    return questions, sorted(set(itertools.chain(*articles)))


@functools.cache
def _hotpotqa(path):
    """Questions with their paragraphs, and every paragraph."""
    questions = []
    for entry in _read(path):
        own = [f"{title}\n{''.join(sentences)}" for title, sentences in entry["context"]]
        questions.append(Question(entry["question"], [entry["answer"]], own, []))
    return questions, sorted({text for question in questions for text in question.documents})


@functools.cache
def _read(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def _loaded(reader, path):
    try:
        questions, documents = reader(path)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: not in the published layout: {error!r}") from error
    if not questions:
        raise DataError(f"{path}: no questions")
    return questions, documents


def _sized(order, questions, documents):
    question = questions[order.index % len(questions)]
    taken = {*question.documents, *question.near}
    near = list(question.near)
    others = [document for document in documents if document not in taken]
    order.rng.shuffle(near)
    order.rng.shuffle(others)
    seed = order.rng.random()
    # Beyond all documents they repeat, those of the question left out.
    beside = filler.Units(itertools.chain(near, itertools.cycle(others or near)))

    def render(count):
        chosen = question.documents + beside.first(count)
        filler.generator(seed).shuffle(chosen)
        context = "\n\n".join(f"Document {number}:\n{text}"
                              for number, text in enumerate(chosen, 1))
        return (f"{INSTRUCTION}\n\nThe documents:\n\n{context}\n\n{INSTRUCTION}\n\n"
                f"Question: {question.text}")

    return Sized(render, " Answer:", question.answers, max_tokens=32, fewest=0,
                 metric="string_match_part")


async def squad(order):
    return _sized(order, *_loaded(_squad, order.files.path("squad", "qa_1")))


async def hotpotqa(order):
    return _sized(order, *_loaded(_hotpotqa, order.files.path("hotpotqa", "qa_2")))
