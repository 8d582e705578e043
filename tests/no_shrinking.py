"""A plugin for ``make mutants``: properties have the same examples each time, and a failing one is not made smaller."""

from hypothesis import Phase, settings


def pytest_configure() -> None:
    settings.register_profile("no shrinking", derandomize=True, phases=(Phase.explicit, Phase.generate))
    settings.load_profile("no shrinking")
