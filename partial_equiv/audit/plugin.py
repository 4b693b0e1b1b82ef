"""Equivariance in pytest: the fixture `assert_equivariant`, and the marker `equivariant` for tests with a `model`.

    @pytest.mark.equivariant(group="C4", size=33)
    def test_my_network(model): ...        # when the test has passed, its fixture `model` is audited

    def test_layers(assert_equivariant):
        assert_equivariant(make_layer(), "D4", size=17)

It is loaded where a project asks for it, `pytest_plugins = ["partial_equiv.audit.plugin"]` in its conftest.py, and not
by itself: the library imports torch, which every start of pytest would wait for.
"""

from collections.abc import Callable, Generator
from typing import Any

import pytest

MARKER = "equivariant"
HELP = (
    "equivariant(group='C4', *, model='model', x=None, size=None, channels=3, tolerance=1e-6, **keywords): after the "
    "test has passed, fail it if the fixture called `model` is a network that is not equivariant to the group; `x` is "
    "a batch of images or the name of a fixture, without it white noise of `size` and `channels` is taken. "
    "See partial_equiv.audit.assert_equivariant."
)


def pytest_configure(config: pytest.Config) -> None:
    """Name the marker."""
    config.addinivalue_line("markers", HELP)


@pytest.fixture
def assert_equivariant() -> Callable[..., None]:
    """Return `partial_equiv.audit.assert_equivariant`."""
    from partial_equiv.audit.assertion import assert_equivariant as found

    return found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Audit the network of a marked test once the test itself has passed."""
    __tracebackhide__ = True
    result = yield
    marks = list(item.iter_markers(MARKER))
    if marks:
        from partial_equiv.audit.assertion import assert_equivariant as check

        for mark in marks:
            keywords = dict(mark.kwargs)
            model = _fixture(item, keywords.pop("model", "model"))
            if isinstance(keywords.get("x"), str):
                keywords["x"] = _fixture(item, keywords["x"])
            check(model, *mark.args, **keywords)
    return result


def _fixture(item: pytest.Item, name: str) -> Any:
    """Return the value of a fixture that the test asks for.

    Raises:
        pytest.fail.Exception: it does not ask for one of this name.
    """
    __tracebackhide__ = True
    asked = getattr(item, "funcargs", {})
    if name not in asked:
        names = ", ".join(sorted(set(asked) - {"request"})) or "none"
        pytest.fail(
            f"@pytest.mark.{MARKER} needs the fixture {name!r}, and {item.name} asks for: {names}; add {name!r} to the "
            "arguments of the test",
            pytrace=False,
        )
    return asked[name]
