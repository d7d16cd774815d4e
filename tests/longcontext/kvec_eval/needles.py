"""Needle tasks, generated: a fact in the hay, and the question for it at the prompt's end.

A task is a function of (rng, depth) that returns a Draft; DRAFTS lists them by name, TASKS what makes
a Prompt of an Order. Facts that only distract stand at random depths.
"""

from kvec_eval import filler, prompts
from kvec_eval.prompts import Draft
from kvec_eval.words import ADJECTIVES, ERRANDS, NOUNS, SCRIPTS

PROSE_OPENING = "Some facts are hidden in the following text. Remember them.\n"
DIGITS = 7


def _names(rng, count):
    return filler.distinct(lambda: filler.name_of(rng), count)


def _question_for(key):
    return {"question": f"\nWhat is the special magic number for {key} mentioned in the text?",
            "answer_prefix": f"The special magic number for {key} mentioned in the text is"}


def key_value(rng, depth):
    key, value = filler.name_of(rng), filler.number(rng, DIGITS)
    return Draft("key_value", PROSE_OPENING, **_question_for(key), answer=f" {value}",
                 filler=filler.prose(rng),
                 needles=[(depth, f"The special magic number for {key} is: {value}.")])


def value_key(rng, depth):
    key, value = filler.name_of(rng), filler.number(rng, DIGITS)
    return Draft("value_key", PROSE_OPENING, **_question_for(key), answer=f" {value}",
                 filler=filler.prose(rng),
                 needles=[(depth, f"{value} is the special magic number for {key}.")])


def several_keys(rng, depth):
    keys = _names(rng, 3)
    values = [filler.number(rng, DIGITS) for _ in keys]
    facts = [f"The special magic number for {key} is: {value}." for key, value in zip(keys, values)]
    needles = [(depth, facts[0])] + [(rng.random(), fact) for fact in facts[1:]]
    return Draft("several_keys", PROSE_OPENING, **_question_for(keys[0]), answer=f" {values[0]}",
                 filler=filler.prose(rng), needles=needles)


def words(rng, depth):
    keys = _names(rng, 2)
    passwords = [" ".join(rng.sample(ADJECTIVES, 2) + rng.sample(NOUNS, 2)) for _ in keys]
    needles = [(at, f"The secret password of {key} is \"{password}\".")
               for at, key, password in zip((depth, rng.random()), keys, passwords)]
    return Draft("words", PROSE_OPENING, f"\nWhat is the secret password of {keys[0]}?",
                 f"The secret password of {keys[0]} is \"", passwords[0], filler.prose(rng),
                 needles=needles)


def straddle(rng, depth):
    """Key and value in different sentences."""
    key, value = filler.name_of(rng), filler.number(rng, DIGITS)
    fact = f"Here comes the special magic number for {key}. Write it down! It is {value}."
    return Draft("straddle", PROSE_OPENING, **_question_for(key), answer=f" {value}",
                 filler=filler.prose(rng), needles=[(depth, fact)])


def two_sentences(rng, depth):
    """An answer of two sentences."""
    key, (first, second) = filler.name_of(rng), rng.sample(ERRANDS, 2)
    message = f"{first}. {second}"
    return Draft("two_sentences", PROSE_OPENING, f"\nWhat does the message for {key} say?",
                 f"The message for {key} says: \"", message, filler.prose(rng),
                 needles=[(depth, f"The message for {key} says: \"{message}.\"")])


def code(rng, depth):
    """The value of a constant among functions."""
    names = [f"{rng.choice(ADJECTIVES)}_{noun}_limit".upper() for noun in rng.sample(NOUNS, 3)]
    values = [filler.number(rng, DIGITS) for _ in names]
    needles = [(at, f"{name} = {value}\n")
               for at, name, value in zip((depth, rng.random(), rng.random()), names, values)]
    return Draft("code", "Here is a Python module.\n",
                 f"\nWhat is the value of {names[0]} in this module?",
                 f"In this module, {names[0]} =", f" {values[0]}", filler.code(rng), separator="\n",
                 needles=needles)


def table(rng, depth):
    """A cell of a table of three rows that stands in prose."""
    names = _names(rng, 3)
    values = [filler.number(rng, DIGITS) for _ in names]
    rows = [f"| {name} | {value} |" for name, value in zip(names, values)]
    lines = ["\n", "| name | special magic number |", "| --- | --- |", *rows, "\n"]
    asked = rng.randrange(len(names))
    return Draft("table", PROSE_OPENING, **_question_for(names[asked]), answer=f" {values[asked]}",
                 filler=filler.prose(rng), needles=[(depth, "\n".join(lines))])


def _script(name):
    def task(rng, depth):
        clauses = SCRIPTS[name]
        keys = rng.sample(clauses["keys"], 2)
        values = [filler.number(rng, DIGITS) for _ in keys]
        needles = [(at, clauses["needle"].format(key=key, value=value))
                   for at, key, value in zip((depth, rng.random()), keys, values)]
        separator = "" if name == "chinese" else " "
        return Draft(f"script_{name}", PROSE_OPENING,
                     f"\nWhat is the secret number for the word «{keys[0]}»?",
                     f"The secret number for the word «{keys[0]}» is", f" {values[0]}",
                     filler.script(rng, name), separator=separator, needles=needles)

    return task


def continuation(rng, depth):
    """No needle: the log-probabilities of the text that follows (perplexity, KL to full)."""
    del depth
    text = filler.prose(rng)
    following = " ".join(next(text) for _ in range(4))
    return Draft("continuation", "", "", "", f" {following}", text, chat=False, forced=True)


DRAFTS = {task.__name__: task for task in (key_value, value_key, several_keys, words, straddle,
                                           two_sentences, code, table, continuation)}
DRAFTS.update({f"script_{name}": _script(name) for name in SCRIPTS})


def _task(make_draft):
    async def make(order):
        draft = make_draft(order.rng, order.depth)
        draft.chat &= order.chat
        return await prompts.fit(draft, order)

    return make


TASKS = {name: _task(make_draft) for name, make_draft in DRAFTS.items()}
