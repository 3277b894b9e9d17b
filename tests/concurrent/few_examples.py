"""A pytest plugin that has hypothesis try few examples: outcomes are compared, not what it finds."""

from hypothesis import settings

settings.register_profile("few", max_examples=10)
settings.load_profile("few")
