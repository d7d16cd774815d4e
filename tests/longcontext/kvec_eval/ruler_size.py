"""How RULER's prompts get their length: the largest haystack with which prompt and answer fit."""

import dataclasses

from kvec_eval.prompts import Prompt

FIRST_GUESS = 40   # units beyond the fewest
TOLERANCE = 0.005  # of the limit
MAX_ESTIMATES = 6  # then the bracket is halved


@dataclasses.dataclass
class Sized:
    """A task's text at any size."""

    render: object          # number of units → the user's message, always the same for the same one
    answer_prefix: str
    references: list[str]
    max_tokens: int
    fewest: int = 1         # units
    metric: str = "string_match_all"


async def largest(ids_of, fewest, limit, place):
    """The greatest number of units found whose token ids are at most `limit`, and these ids."""
    low, ids = fewest, await ids_of(fewest)
    least = len(ids)
    if least > limit:
        raise ValueError(f"prompt {place}: has {least} tokens without its haystack, more than the "
                         f"{limit} that prompt_tokens leaves")
    high, count, attempts = None, fewest + FIRST_GUESS, 0
    while limit - len(ids) > TOLERANCE * limit and (high is None or high - low > 1):
        found = await ids_of(count)
        per_unit = (len(found) - least) / (count - fewest)
        if len(found) <= limit:
            low, ids = count, found
        else:
            high = count
        attempts += 1
        count = low + round((limit - len(ids)) / per_unit) if per_unit > 0 else 2 * count
        if high is not None:
            if attempts > MAX_ESTIMATES:
                count = (low + high) // 2
            count = min(count, high - 1)
        count = max(count, low + 1)
    return low, ids


async def make_prompt(name, task, order):
    """The task `name` as a Prompt of at most the wanted length, its answer included."""
    for field, is_set in (("ask_later", order.ask_later), ("turns", order.turns > 1)):
        if is_set:
            raise ValueError(f"{field}: {name} has one question, in its prompt")
    sized = await task(order)
    tokenizer = order.tokenizer
    tokens_of = tokenizer.chat if order.chat else tokenizer.document
    prefix_ids = await tokenizer.text(sized.answer_prefix)

    async def ids_of(count):
        return await tokens_of(sized.render(count)) + prefix_ids

    _, ids = await largest(ids_of, sized.fewest, order.length - sized.max_tokens, order.id)
    return Prompt(order.id, name, ids, [], ", ".join(sized.references), length=order.length,
                  metric=sized.metric, references=sized.references, max_tokens=sized.max_tokens)
