"""Segments of a hierarchy: which there are, where cohorts belong, and sums over them."""

import numpy as np
import pytest
from factories.cohorts import curve, history

from ltvnet.data.curves import Curves
from ltvnet.data.segments import Segments

KEYS = [(), ("x",), ("y",), ("x", "android"), ("x", "ios"), ("y", "ios")]
SEGMENTS = Segments.from_keys(("Apps", "OS"), KEYS)


def cohorts(*keys: tuple[str, str]) -> Curves:
    """Curves of cohorts (app, OS), in that order."""
    rows = [
        (f"2024-01-{day:02}", f"2024-01-{day:02}", {"Apps": app, "OS": system}, 1, curve(9))
        for day, (app, system) in enumerate(keys, 1)
    ]
    return history(rows, hierarchy=("Apps", "OS")).as_of("2024-03-01")


def test_parents_stand_before_their_children() -> None:
    assert SEGMENTS.level.tolist() == [0, 1, 1, 2, 2, 2]
    assert SEGMENTS.parent.tolist() == [0, 0, 0, 1, 1, 2]
    assert [level.tolist() for level in SEGMENTS.lower_levels()] == [[1, 2], [3, 4, 5]]


def test_segments_of_curves() -> None:
    curves = cohorts(("y", "ios"), ("x", "ios"), ("x", "android"), ("x", "ios"))
    assert Segments.from_curves(curves, None).keys == KEYS
    assert Segments.from_curves(curves, 1).keys == KEYS[:3]
    assert Segments.from_curves(curves, 0).keys == [()]


def test_the_deepest_segment_of_a_cohort() -> None:
    """A value that no child has ends the search, even where deeper values would be known."""
    curves = cohorts(("x", "ios"), ("y", "android"), ("z", "ios"), ("y", "ios"), ("x", "web"))
    assert SEGMENTS.find_deepest(curves).tolist() == [4, 2, 0, 5, 1]


def test_a_missing_attribute_is_empty_text() -> None:
    rows = [("2024-01-01", "2024-01-01", {"Apps": "x"}, 1, curve(9))]
    curves = history(rows).as_of("2024-03-01")
    assert SEGMENTS.find_deepest(curves).tolist() == [1]
    with_empty = Segments.from_keys(("Apps", "OS"), [(), ("x",), ("x", "")])
    assert with_empty.find_deepest(curves).tolist() == [2]


def test_lineage_goes_from_the_top_to_the_segment() -> None:
    levels = SEGMENTS.lineage(np.array([4, 2, 0, 5]))
    assert [level.tolist() for level in levels] == [[0, 0, 0, 0], [1, 2, 0, 2], [4, 2, 0, 5]]


def test_subtotals_include_descendants() -> None:
    segment = np.array([4, 2, 0, 5, 4])
    rows = np.array([1.0, 10.0, 100.0, 1000.0, 10000.0])
    expected = [11111.0, 10001.0, 1010.0, 0.0, 10001.0, 1000.0]
    assert SEGMENTS.subtotals(rows, segment).tolist() == expected
    wide = np.stack([rows, 2 * rows], axis=1)
    assert SEGMENTS.subtotals(wide, segment).tolist() == [[x, 2 * x] for x in expected]


def test_segments_follow_the_hierarchy() -> None:
    rows = [
        ("2024-01-01", "2024-01-07", {"Apps": "x", "OS": "ios"}, 1, curve(9)),
        ("2024-01-01", "2024-01-07", {"Apps": "x", "OS": "android"}, 1, curve(9)),
        ("2024-01-01", "2024-01-07", {"Apps": "y", "OS": "ios"}, 1, curve(9)),
    ]
    curves = history(rows, hierarchy=("Apps", "OS")).as_of("2024-02-01")
    assert curves.segments(0)[1] == [()]
    assert curves.segments(1)[1] == [("x",), ("y",)]
    ids, keys = curves.segments(2)
    assert keys == [("x", "android"), ("x", "ios"), ("y", "ios")] and ids.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="expected a level from 0 to 2, got 3"):
        curves.segments(3)
