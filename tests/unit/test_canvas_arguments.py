"""The arguments and options that signatures hold: their own, and those that are worked out for them."""

import pytest

from django_tasks.canvas import group, signature


def test_a_dictionary_of_arguments_stays_the_callers():
    """Two signatures that are made with one dictionary have each their own."""
    shared = {"tenant": "a"}
    first, second = signature("copies.a", kwargs=shared), signature("copies.b", kwargs=shared)
    first.kwargs["more"] = 1
    assert (shared, second.kwargs) == ({"tenant": "a"}, {"tenant": "a"})


@pytest.mark.parametrize(
    ("given", "countdowns"),
    [
        ({"start": 1, "stop": 10, "step": 4}, [1, 5, 9, 9, 9]),
        ({"stop": 3}, [1, 2, 3, 3, 3]),
        ({"start": 5, "step": 2.5}, [5, 7.5, 10, 12.5, 15]),
        ({"start": 0, "stop": 0}, [0, 1, 2, 3, 4]),
    ],
)
def test_skew_goes_no_further_than_stop(given, countdowns):
    """As in Celery: the last step that fits is repeated, and 0 is no end."""
    spread = group(signature("skewed.call") for _ in range(5)).skew(**given)
    assert [call.options["countdown"] for call in spread.tasks] == countdowns
