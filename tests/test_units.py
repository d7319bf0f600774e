import pytest

from labcore.configs import units


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (180, 270, "3.0 to 4.5 min"),
        (8, 12, "8.0 to 12 s"),
        (80, 120, "80 s to 2.0 min"),
        (5400, 8100, "90.0 min to 2.2 h"),
    ],
)
def test_a_time_from_to_names_a_unit_once(low: float, high: float, shown: str) -> None:
    assert units.seconds_between(low, high) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(41.2, "≈ 41 s left, estimated"), (1, "≈ 1.0 s left, estimated"), (0.4, "almost done"), (-3, "almost done")],
)
def test_no_time_is_left_of_less_than_a_second(value: float, shown: str) -> None:
    assert units.left(value) == shown
