"""What is asked, and the texts that become prompts of a wanted length."""

import dataclasses
import hashlib
import os

from kvec_eval.filler import Units, with_needles


@dataclasses.dataclass
class Turn:
    """A further question on the cache that the earlier ones have left."""

    ids: list[int]  # what follows the answer before it: its end, the question, the next's beginning
    answer_ids: list[int]
    answer: str
    scored_from: int = 0


@dataclasses.dataclass
class Prompt:
    """One question as the service gets it."""

    id: str
    task: str
    prompt_ids: list[int]
    answer_ids: list[int]
    answer: str
    scored_from: int = 0  # 1 where the first answer token is a blank alone, which says nothing
    # Answer tokens are fed and their log-probabilities compared, instead of generated freely.
    forced: bool = False
    # The question where it comes after the context was evicted: then the answer is fed too, and
    # what the model thinks likeliest in each of its places counts as given.
    asked_ids: list[int] = dataclasses.field(default_factory=list)
    depth: float | None = None  # where the needle is: 0 the beginning, 1 the end
    length: int = 0             # wanted tokens
    # One of scoring.METRICS; all but tokens go by the text, and look into references and classes.
    metric: str = "tokens"
    references: list[str] = dataclasses.field(default_factory=list)
    classes: list[str] = dataclasses.field(default_factory=list)
    # How long the answer may get; unset: as long as the expected one, and a little.
    max_tokens: int | None = None
    # Ends the answer beside the model's own tokens, but not before its first token.
    stop_ids: list[int] = dataclasses.field(default_factory=list)
    turns: list[Turn] = dataclasses.field(default_factory=list)  # after the first

    def fingerprint(self):
        """Of what decides the answer: stored answers hold for this prompt only."""
        text = (f"{self.prompt_ids}{self.asked_ids or ''}{self.answer_ids}{self.forced}"
                f"{self.max_tokens or ''}{self.stop_ids or ''}{self.turns or ''}")
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def record(self):
        """What scoring wants to know of it; the prompt's token ids stay out, the suite makes them
        again."""
        fields = dataclasses.asdict(self)
        del fields["prompt_ids"], fields["asked_ids"]
        for turn in fields["turns"]:
            del turn["ids"]
        return {**fields, "fingerprint": self.fingerprint(), "prompt_tokens": len(self.prompt_ids)}


@dataclasses.dataclass
class Order:
    """What a task is to make one prompt of."""

    id: str
    index: int             # among the task's prompts of this length
    rng: object            # random.Random, this prompt's own
    length: int            # tokens
    depth: float
    tokenizer: object      # see fit()
    files: object          # files.Files
    chat: bool = True
    ask_later: bool = False
    turns: int = 1         # questions, one after the other


@dataclasses.dataclass
class Question:
    text: str
    answer_prefix: str
    answer: str


@dataclasses.dataclass
class Draft:
    """A prompt before its filler is cut to length."""

    task: str
    opening: str
    question: str
    answer_prefix: str
    answer: str
    filler: object                # an iterator of units
    separator: str = " "
    needles: list[tuple[float, str]] = dataclasses.field(default_factory=list)  # (depth, unit)
    chat: bool = True             # through the chat template; else the plain text
    forced: bool = False
    further: list[Question] = dataclasses.field(default_factory=list)

    def __post_init__(self):
        self.units = Units(self.filler)

    def user_message(self, num_units):
        """Opening, `num_units` of filler with the needles in their depths, question."""
        context = self.separator.join(with_needles(self.units.first(num_units), self.needles))
        message = "\n".join(part for part in (self.opening, context, self.question) if part)
        return message if self.chat or not self.question else f"{message}\n"


FIRST_GUESS = 60     # units
MAX_ATTEMPTS = 6
TOLERANCE = 0.01     # of the wanted length


async def fit(draft, order):
    """The draft as a Prompt of about the wanted tokens; `order.ask_later`: without its question,
    which is to be asked of the evicted cache.

    The tokenizer has chat(message), document(text), both with the model's special tokens, and
    text(text) without; they return token ids.
    """
    length, tokenizer = order.length, order.tokenizer
    tokens_of = tokenizer.chat if draft.chat else tokenizer.document
    prefix_ids = await tokenizer.text(draft.answer_prefix) if draft.answer_prefix else []
    without_filler = draft.user_message(0)
    empty = len(prefix_ids) + (len(await tokens_of(without_filler)) if without_filler else 0)
    if empty >= length:
        raise ValueError(f"prompt {order.id}: the question alone has {empty} tokens, "
                         f"more than prompt_tokens {length}")
    num_units, best, best_units = FIRST_GUESS, None, 0
    for _ in range(MAX_ATTEMPTS):
        ids = await tokens_of(draft.user_message(num_units)) + prefix_ids
        if best is None or abs(len(ids) - length) < abs(len(best) - length):
            best, best_units = ids, num_units
        if abs(len(ids) - length) <= TOLERANCE * length or len(ids) <= empty:
            break
        wanted = max(1, round(num_units * (length - empty) / (len(ids) - empty)))
        if wanted == num_units:
            break
        num_units = wanted
    answer_ids, scored_from = await expected(draft.answer_prefix, draft.answer, tokenizer)
    made = Prompt(order.id, draft.task, best, answer_ids, draft.answer, scored_from, draft.forced,
                  depth=order.depth, length=length, turns=await _turns(draft, order))
    if order.ask_later and draft.question:
        # The context ends where another question would make the first difference.
        other = dataclasses.replace(draft, question="\n0")
        other.units = draft.units
        other_ids = await tokens_of(other.user_message(best_units))
        shared = os.path.commonprefix([best, other_ids])
        made.prompt_ids, made.asked_ids = best[:len(shared)], best[len(shared):]
    return made


async def _turns(draft, order):
    """The questions after the first."""
    if order.turns > 1 + len(draft.further):
        raise ValueError(f"turns: {order.turns}, but {draft.task} has {1 + len(draft.further)}")
    follow = order.tokenizer.next_turn if draft.chat else order.tokenizer.text
    made = []
    for question in draft.further[:order.turns - 1]:
        ids = await follow(question.text if draft.chat else f"\n{question.text}\n")
        ids += await order.tokenizer.text(question.answer_prefix)
        answer_ids, scored_from = await expected(question.answer_prefix, question.answer,
                                                 order.tokenizer)
        made.append(Turn(ids, answer_ids, question.answer, scored_from))
    return made


async def expected(prefix, answer, tokenizer):
    """The answer's tokens as they follow the prefix, and from which on they are scored."""
    prefix_ids = await tokenizer.text(prefix) if prefix else []
    ids = await tokenizer.text(prefix + answer)
    if ids[:len(prefix_ids)] == prefix_ids:
        ids = ids[len(prefix_ids):]
    else:
        ids = await tokenizer.text(answer)
    return ids, int(ids[:1] == await tokenizer.text(" "))
