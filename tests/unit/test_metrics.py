"""Metrics are kept so that those of several processes can be shown as one."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = [path for stage in ("accounting", "cdr", "reports") for path in (ROOT / stage).rglob("*.py")]


def test_every_gauge_says_what_of_it_is_shown_for_several_processes() -> None:
    """Else each process would be a series of its own, which stays when the process has gone."""
    gauges = [made for path in SOURCES for made in re.findall(r"= Gauge\((.*?)\n\S", path.read_text(), re.DOTALL)]
    assert gauges
    assert not [made for made in gauges if 'multiprocess_mode="live' not in made]


def test_metrics_are_made_by_the_module_that_knows_where_their_values_are_kept() -> None:
    direct = [
        str(path) for path in SOURCES if re.search(r"^(from|import) prometheus_client", path.read_text(), re.MULTILINE)
    ]
    known = ("base/metrics.py", "status_page.py", "supervisor.py")
    assert not [path for path in direct if not path.endswith(known)]
