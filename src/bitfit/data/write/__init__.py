"""Writes answers to files."""
