"""Measures this engine beside the usual tools; no part of the package."""
