"""Metrics are kept so that those of several processes can be shown as one."""

import os
import re
import subprocess
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from accounting.base.metrics import FOLDER_VARIABLE
from accounting.base.watch import NAME_VARIABLE

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


def test_the_oldest_request_of_all_spools_is_told(tmp_path: Path) -> None:
    """An age, for a process that keeps none, or is no receiver, tells 0."""
    for name, age_s in (("receive-1", "30"), ("receive-2", "7200"), ("receive-3", "0"), ("schedule", "")):
        script = "from accounting.radius import metrics\n" + (f"metrics.SPOOL_OLDEST.set({age_s})" if age_s else "")
        environment = os.environ | {FOLDER_VARIABLE: str(tmp_path), NAME_VARIABLE: name}
        subprocess.run([sys.executable, "-c", script], env=environment, cwd=ROOT, check=True)
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(tmp_path))  # type: ignore[no-untyped-call]
    assert registry.get_sample_value("tollbook_spool_oldest_age_seconds") == 7200
