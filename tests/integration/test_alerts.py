"""The alert rules are valid, fire when they should and only then, and ask for metrics that exist."""

import re
import shutil
import subprocess
from pathlib import Path

from tests.support.daemon import program
from tests.support.service import ROOT

RULES = ROOT / "packaging" / "prometheus" / "tollbook.yml"
CASES = ROOT / "tests" / "data" / "prometheus" / "cases.yml"


def test_alerts_fire_when_something_is_wrong_and_only_then(tmp_path: Path) -> None:
    for file in (RULES, CASES):
        shutil.copy(file, tmp_path)
    command = [program("promtool", "prometheus"), "test", "rules", str(tmp_path / CASES.name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_ask_for_metrics_that_exist_and_each_is_tested() -> None:
    documented = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    asked = {name.removesuffix("_bucket") for name in re.findall(r"\btollbook_\w+", RULES.read_text())}
    assert not [name for name in asked if f"| `{name}` |" not in documented]
    alerts = re.findall(r"alert: (\w+)", RULES.read_text())
    assert alerts == re.findall(r"alertname: (\w+)", CASES.read_text())
