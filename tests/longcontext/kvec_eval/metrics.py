"""Scores of a generated text against reference answers, 0 … 1, by LongBench's and RULER's published
definitions. METRICS lists them by the name that a Prompt carries."""

import collections
import difflib
import logging
import re
import string

import jieba
import rouge

jieba.setLogLevel(logging.WARNING)

ARTICLES = re.compile(r"\b(a|an|the)\b")
NUMBER = re.compile(r"\d+")
# First and last code point of each range that LongBench drops from Chinese answers. Not all
# punctuation: the opening 《 and the · within names stay.
CHINESE_PUNCTUATION = frozenset(chr(point) for first, last in (
    (0x2013, 0x2014), (0x2018, 0x2019), (0x201b, 0x201f), (0x2026, 0x2027), (0x3001, 0x3003),
    (0x300b, 0x3011), (0x3014, 0x301f), (0x3030, 0x3030), (0x303e, 0x303f), (0xfe4f, 0xfe4f),
    (0xff01, 0xff0d), (0xff0f, 0xff0f), (0xff1a, 0xff20), (0xff3b, 0xff40), (0xff5b, 0xff64))
    for point in range(first, last + 1))
# A line with one of these is a comment or a fence, not code.
NO_CODE = ("`", "#", "//")


def _f1(prediction, reference):
    """Of two bags of words."""
    shared = (collections.Counter(prediction) & collections.Counter(reference)).total()
    return 2 * shared / (len(prediction) + len(reference)) if shared else 0.0


def _words(text):
    plain = "".join(c for c in text.lower() if c not in string.punctuation)
    return ARTICLES.sub(" ", plain).split()


def _chinese_words(text):
    dropped = CHINESE_PUNCTUATION.union(string.punctuation)
    words = ("".join(c for c in word.lower() if c not in dropped and not c.isspace())
             for word in jieba.cut(text))
    return [word for word in words if word]


def qa_f1(prediction, reference, classes):
    del classes
    return _f1(_words(prediction), _words(reference))


def qa_f1_zh(prediction, reference, classes):
    del classes
    return _f1(_chinese_words(prediction), _chinese_words(reference))


def rouge_l(prediction, reference, classes):
    del classes
    try:
        (scores,) = rouge.Rouge(metrics=["rouge-l"]).get_scores([prediction], [reference])
    # An empty text; a sentence of hundreds of words: 0 in the published numbers as well.
    except (ValueError, RecursionError):
        return 0.0
    return scores["rouge-l"]["f"]


def rouge_l_zh(prediction, reference, classes):
    return rouge_l(" ".join(jieba.cut(prediction)), " ".join(jieba.cut(reference)), classes)


def classification(prediction, reference, classes):
    """The reference's share among the classes that are named, those that are a part of its name
    left out."""
    named = [name for name in classes if name in prediction]
    # As published: dropping a class passes over the one behind it.
    for name in named:
        if name in reference and name != reference:
            named.remove(name)
    return 1 / len(named) if reference in named else 0.0


def count(prediction, reference, classes):
    """The reference's share among the numbers that are named."""
    del classes
    numbers = NUMBER.findall(prediction)
    return numbers.count(reference) / len(numbers) if numbers else 0.0


def retrieval(prediction, reference, classes):
    """The reference is "Paragraph 7" or "段落7"."""
    return count(prediction, NUMBER.search(reference)[0], classes)


def code_similarity(prediction, reference, classes):
    """Of the first line that is code, in whole hundredths."""
    del classes
    lines = prediction.lstrip("\n").split("\n")
    line = next((line for line in lines if not any(mark in line for mark in NO_CODE)), "")
    return round(100 * difflib.SequenceMatcher(None, line, reference).ratio()) / 100


def _best(metric):
    """Over the references, any of which is right."""
    def score(prompt, text):
        return max((metric(text, reference, prompt["classes"])
                    for reference in prompt["references"]), default=0.0)

    return score


def _first_line(metric):
    """A few-shot prompt's answer ends with its line; what follows is the model's next example."""
    return lambda prompt, text: metric(prompt, text.lstrip("\n").split("\n")[0])


def _found(prompt, text):
    return [reference.lower() in text.lower() for reference in prompt["references"]]


def string_match_all(prompt, text):
    """Share of the references that the text holds."""
    found = _found(prompt, text)
    return sum(found) / len(found)


def string_match_part(prompt, text):
    """Whether the text holds any of the references."""
    return float(any(_found(prompt, text)))


PLAIN = (qa_f1, qa_f1_zh, rouge_l, rouge_l_zh, classification, count, retrieval, code_similarity)
METRICS = {metric.__name__: _best(metric) for metric in PLAIN}
METRICS.update({f"{metric.__name__}_first_line": _first_line(_best(metric))
                for metric in (qa_f1, rouge_l, classification)})
METRICS.update({metric.__name__: metric for metric in (string_match_all, string_match_part)})
