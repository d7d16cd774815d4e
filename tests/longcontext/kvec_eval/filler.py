"""Generated filler: the hay around the needles. A filler is an endless iterator of units (sentences,
functions), the same for the same generator of random numbers."""

import itertools
import random

from kvec_eval.words import ACTIONS, ADJECTIVES, NOUNS, PEOPLE, PLACES, REMARKS, SCRIPTS, TIMES


def prose(rng):
    """English sentences."""
    while True:
        person, action = rng.choice(PEOPLE), rng.choice(ACTIONS)
        place, time = rng.choice(PLACES), rng.choice(TIMES)
        form = rng.randrange(4)
        if form == 0:
            yield f"{time} {person} {action} {place}."
        elif form == 1:
            yield f"{person[0].upper()}{person[1:]} {action} {place}."
        elif form == 2:
            yield f"{time} {person} {action}, and {rng.choice(PEOPLE)} {rng.choice(ACTIONS)}."
        else:
            yield f"{rng.choice(REMARKS)}."


def script(rng, name):
    """Sentences of another script; `name` is a key of words.SCRIPTS."""
    clauses = SCRIPTS[name]
    parts = ("time", "person", "action", "place")
    while True:
        yield clauses["sentence"].format(**{part: rng.choice(clauses[part]) for part in parts})


def name_of(rng):
    return f"{rng.choice(ADJECTIVES)}-{rng.choice(NOUNS)}"


def number(rng, digits):
    return str(rng.randrange(10 ** (digits - 1), 10**digits))


def code(rng):
    """Short Python functions."""
    while True:
        verb = rng.choice(("load", "merge", "sort", "count", "check", "store", "split", "join"))
        adjective, noun = rng.choice(ADJECTIVES), rng.choice(NOUNS)
        field, limit = rng.choice(NOUNS), rng.randrange(2, 99)
        body = rng.choice((
            f"    result = []\n    for item in {noun}s:\n        if item.{field} > {limit}:\n"
            f"            result.append(item)\n    return result\n",
            f"    total = {limit}\n    for item in {noun}s:\n        total += item.{field}\n"
            f"    return total\n",
            f"    if not {noun}s:\n        return None\n"
            f"    return max({noun}s, key=lambda item: item.{field})\n",
        ))
        yield f"def {verb}_{adjective}_{noun}s({noun}s):\n{body}"


def distinct(make, count):
    """`count` different results of make()."""
    found = []
    while len(found) < count:
        value = make()
        if value not in found:
            found.append(value)
    return found


def generator(seed):
    return random.Random(seed)


class Units:
    """The beginning of an endless iterator, as often as wanted."""

    def __init__(self, source):
        self._source = source
        self._drawn = []

    def first(self, count):
        missing = count - len(self._drawn)
        self._drawn.extend(itertools.islice(self._source, max(0, missing)))
        return self._drawn[:count]


def with_needles(units, needles):
    """The units with each (depth, needle) in its place."""
    mixed = list(units)
    # From the back, so that the places in front stay where they are.
    for depth, needle in sorted(needles, reverse=True):
        mixed.insert(round(depth * len(units)), needle)
    return mixed
