"""The arguments that a signature holds are its own."""

from django_tasks.canvas import signature


def test_a_dictionary_of_arguments_stays_the_callers():
    """Two signatures that are made with one dictionary have each their own."""
    shared = {"tenant": "a"}
    first, second = signature("copies.a", kwargs=shared), signature("copies.b", kwargs=shared)
    first.kwargs["more"] = 1
    assert (shared, second.kwargs) == ({"tenant": "a"}, {"tenant": "a"})
