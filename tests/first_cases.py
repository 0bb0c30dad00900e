"""`--first-cases` runs each test once: on another Python the cases of a test take the same path."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--first-cases", action="store_true", help="of each test, run only the first case")


# After -k, which may have deselected the first one.
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.option.first_cases:
        return
    first: dict[str, pytest.Item] = {}
    for item in items:
        first.setdefault(item.nodeid.partition("[")[0], item)
    kept = set(first.values())
    chosen = [item for item in items if item in kept or item.get_closest_marker("every_case")]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen
