"""Every task that can be generated at a wanted length, by the name that suites give it."""

from kvec_eval import needles, ruler

TASKS = {**needles.TASKS, **ruler.TASKS}
