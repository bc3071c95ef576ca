"""Hypothesis without its clock: the machine that runs the tests may be busy."""

from hypothesis import settings

settings.register_profile("without a clock", deadline=None)
settings.load_profile("without a clock")
