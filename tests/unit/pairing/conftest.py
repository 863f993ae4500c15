"""The fixture `paired`: the calls that a test's docstring tells."""

import pytest

from tests.unit.pairing.scenario import Paired, pair, parse


@pytest.fixture
def paired(request: pytest.FixtureRequest) -> Paired:
    """What pairing makes of the reports in the test's docstring."""
    return pair(parse(request.function.__doc__))
