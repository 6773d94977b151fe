"""The frozen model: loaded, named, packed, fast."""
