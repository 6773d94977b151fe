"""Thin doors to other tools and their files."""
