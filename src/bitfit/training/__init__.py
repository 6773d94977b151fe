"""From a task and a selection to a run: the loop and what surrounds it."""
