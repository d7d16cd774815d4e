"""Needle tasks, generated: a fact in the hay, and the question for it at the prompt's end.

A task is a function of (rng, depth) that returns a Draft; DRAFTS lists them by name, TASKS what makes
a Prompt of an Order. Facts that only distract stand at random depths.
"""

from kvec_eval import filler, prompts
from kvec_eval.prompts import Draft, Question
from kvec_eval.words import ADJECTIVES, ERRANDS, NOUNS, SCRIPTS

PROSE_OPENING = "Some facts are hidden in the following text. Remember them.\n"
DIGITS = 7


def _names(rng, count):
    return filler.distinct(lambda: filler.name_of(rng), count)


def _draft(task, opening, questions, **fields):
    """A Draft of the first question, the others being asked in later turns."""
    first, *further = questions
    return Draft(task, opening, f"\n{first.text}", first.answer_prefix, first.answer,
                 further=further, **fields)


def _question_for(key, value):
    return Question(f"What is the special magic number for {key} mentioned in the text?",
                    f"The special magic number for {key} mentioned in the text is", f" {value}")


def key_value(rng, depth):
    key, value = filler.name_of(rng), filler.number(rng, DIGITS)
    return _draft("key_value", PROSE_OPENING, [_question_for(key, value)],
                  filler=filler.prose(rng),
                  needles=[(depth, f"The special magic number for {key} is: {value}.")])


def value_key(rng, depth):
    key, value = filler.name_of(rng), filler.number(rng, DIGITS)
    return _draft("value_key", PROSE_OPENING, [_question_for(key, value)],
                  filler=filler.prose(rng),
                  needles=[(depth, f"{value} is the special magic number for {key}.")])


def several_keys(rng, depth):
    keys = _names(rng, 3)
    values = [filler.number(rng, DIGITS) for _ in keys]
    facts = [f"The special magic number for {key} is: {value}." for key, value in zip(keys, values)]
    needles = [(depth, facts[0])] + [(rng.random(), fact) for fact in facts[1:]]
    return _draft("several_keys", PROSE_OPENING, list(map(_question_for, keys, values)),
                  filler=filler.prose(rng), needles=needles)


def words(rng, depth):
    keys = _names(rng, 2)
    passwords = [" ".join(rng.sample(ADJECTIVES, 2) + rng.sample(NOUNS, 2)) for _ in keys]
    needles = [(at, f"The secret password of {key} is \"{password}\".")
               for at, key, password in zip((depth, rng.random()), keys, passwords)]
    questions = [Question(f"What is the secret password of {key}?",
                          f"The secret password of {key} is \"", password)
                 for key, password in zip(keys, passwords)]
    return _draft("words", PROSE_OPENING, questions, filler=filler.prose(rng), needles=needles)


def straddle(rng, depth):
    """Key and value in different sentences."""
    key, value = filler.name_of(rng), filler.number(rng, DIGITS)
    fact = f"Here comes the special magic number for {key}. Write it down! It is {value}."
    return _draft("straddle", PROSE_OPENING, [_question_for(key, value)],
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
    questions = [Question(f"What is the value of {name} in this module?",
                          f"In this module, {name} =", f" {value}")
                 for name, value in zip(names, values)]
    return _draft("code", "Here is a Python module.\n", questions, filler=filler.code(rng),
                  separator="\n", needles=needles)


def table(rng, depth):
    """A cell of a table of three rows that stands in prose."""
    names = _names(rng, 3)
    values = [filler.number(rng, DIGITS) for _ in names]
    rows = [f"| {name} | {value} |" for name, value in zip(names, values)]
    lines = ["\n", "| name | special magic number |", "| --- | --- |", *rows, "\n"]
    asked = rng.randrange(len(names))
    questions = list(map(_question_for, names, values))
    questions.insert(0, questions.pop(asked))
    return _draft("table", PROSE_OPENING, questions, filler=filler.prose(rng),
                  needles=[(depth, "\n".join(lines))])


def _script(name):
    def task(rng, depth):
        clauses = SCRIPTS[name]
        keys = rng.sample(clauses["keys"], 2)
        values = [filler.number(rng, DIGITS) for _ in keys]
        needles = [(at, clauses["needle"].format(key=key, value=value))
                   for at, key, value in zip((depth, rng.random()), keys, values)]
        separator = "" if name == "chinese" else " "
        questions = [Question(f"What is the secret number for the word «{key}»?",
                              f"The secret number for the word «{key}» is", f" {value}")
                     for key, value in zip(keys, values)]
        return _draft(f"script_{name}", PROSE_OPENING, questions, filler=filler.script(rng, name),
                      separator=separator, needles=needles)

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
