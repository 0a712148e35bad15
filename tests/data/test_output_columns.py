"""Attributes of any name have a column of their own in every table."""

from hypothesis import given
from hypothesis import strategies as st

from ltvnet.data.output_columns import OUTPUT_COLUMNS, attribute_column, attribute_of_column

NAMES = st.one_of(
    st.sampled_from(sorted(OUTPUT_COLUMNS)),
    st.sampled_from(["P_D30", "roas_d360", "raw_p10", "corrected_mean", "Campaign", "attribute_"]),
    st.text(min_size=1, max_size=12),
)
ATTRIBUTES = st.builds(
    lambda prefixes, name: "attribute_" * prefixes + name, st.integers(0, 3), NAMES
)


@given(st.sets(ATTRIBUTES, max_size=6))
def test_names_come_back_and_stay_apart(names: set[str]) -> None:
    columns = [attribute_column(name) for name in names]
    assert [attribute_of_column(column) for column in columns] == list(names)
    assert len(set(columns)) == len(names)
    assert not OUTPUT_COLUMNS & {column.lower() for column in columns}


def test_usual_names_are_kept() -> None:
    for name in (
        "Apps",
        "OS",
        "Country",
        "Source",
        "Campaign",
        "Ad set",
        "attribute_colour",
        "P_D",
    ):
        assert attribute_column(name) == attribute_of_column(name) == name
