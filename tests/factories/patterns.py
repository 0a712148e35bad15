"""Patterns without tilt and dates, whose numbers can be worked out by hand."""

from factories.configs import PLAIN_PATTERN, TRIANGLE_LADDER, arguments_of
from ltvnet.models.pattern.pattern import Pattern


def make_pattern(**changes: object) -> Pattern:
    """A pattern with segments and levels only, with some arguments changed."""
    return Pattern(**arguments_of(PLAIN_PATTERN) | changes)


def make_chain_ladder(**changes: object) -> Pattern:
    """The chain ladder of the textbooks, with some arguments changed."""
    return Pattern(**arguments_of(TRIANGLE_LADDER) | changes)
