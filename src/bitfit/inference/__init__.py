"""Answers and scores of what was trained."""
