"""Plans of many runs, and what others published."""
