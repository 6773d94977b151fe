"""Plans of many runs, what came of them, and what others published."""
