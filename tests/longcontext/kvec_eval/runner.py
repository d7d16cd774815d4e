"""Puts every prompt to the service under every policy and budget that has no answer yet."""

import asyncio
import dataclasses

from kvec_eval.service import ServiceError

FULL = "full"     # the policy that keeps everything, and has no budget
SLACK_TOKENS = 4  # generated beyond the expected answer: "exact" looks for it in there


@dataclasses.dataclass(frozen=True)
class Cell:
    """One way to answer a prompt."""

    policy: str
    budget: int | None


def cells(policies, budgets):
    grid = []
    for policy in policies:
        grid.extend([Cell(FULL, None)] if policy == FULL else
                    [Cell(policy, budget) for budget in budgets])
    return grid


class Runner:
    """Shares the prompts among the targets. All cells of a prompt go to one target, the first one
    alone: where the service keeps prompt prefixes, the others find its prefill there."""

    def __init__(self, services, store, grid, parallel, progress):
        self._services = services
        self._store = store
        self._grid = grid
        self._parallel = parallel
        self._progress = progress  # called after each answer
        self.errors = []           # of requests that were given up

    def missing(self, prompt):
        return [cell for cell in self._grid
                if not self._store.has(prompt, cell.policy, cell.budget)]

    async def run(self, prompts):
        """Returns when every prompt is answered, or every target has failed."""
        waiting = asyncio.Queue()
        for prompt in prompts:
            if self.missing(prompt):
                waiting.put_nowait(prompt)
        await asyncio.gather(*(self._serve(service, waiting) for service in self._services))
        if not waiting.empty():
            self.errors.append(f"{waiting.qsize()} prompts: no target left to answer them")

    async def _serve(self, service, waiting):
        """Puts prompts to one target until none is left or it is gone for good."""
        while not waiting.empty():
            prompt = waiting.get_nowait()
            try:
                await self._answer(service, prompt)
            except ServiceError as error:
                self.errors.append(f"{prompt.id}: {error}")
                if error.is_transient:
                    waiting.put_nowait(prompt)
                    return

    async def _answer(self, service, prompt):
        todo = self.missing(prompt)
        limit = asyncio.Semaphore(self._parallel)

        async def run(cell):
            async with limit:
                answer = await service.answer(prompt, cell.policy, cell.budget, SLACK_TOKENS)
            self._store.add(prompt, cell.policy, cell.budget, service.target, answer)
            self._progress()

        await run(todo[0])
        results = await asyncio.gather(*map(run, todo[1:]), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
