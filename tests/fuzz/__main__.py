"""Fuzz a target, guided by coverage: `make fuzz`, or `python -m tests.fuzz TARGET SECONDS`. Needs the extra `fuzz`.

Without words it names the targets.
"""

import logging
import sys
import tempfile
from pathlib import Path

FINDS = Path(__file__).parents[1] / "data" / "fuzz"
UNIT_S_MAX = 5
OCTETS_MAX = 8192


def main() -> None:
    """Fuzz until the time is over; what makes it fail is kept in tests/data/fuzz/TARGET."""
    if len(sys.argv) != 3:
        from tests.fuzz.targets import TARGETS

        print(" ".join(TARGETS))
        return
    try:
        import atheris
    except ImportError:
        sys.exit("atheris is missing; run: .venv/bin/pip install -e '.[mysql,dev,fuzz]'")
    name, seconds = sys.argv[1], int(sys.argv[2])
    with atheris.instrument_imports(include=["accounting", "pyrad"]):
        from tests.fuzz import targets
    from tests.fuzz.seeds import seeds

    logging.disable()  # pyrad tells what it passes over
    folder = Path(tempfile.mkdtemp(prefix=f"tollbook-fuzz-{name}-"))
    for number, seed in enumerate(seeds(name)):
        (folder / f"seed-{number}").write_bytes(seed)
    finds = FINDS / name
    finds.mkdir(parents=True, exist_ok=True)
    words = [f"-max_total_time={seconds}", f"-timeout={UNIT_S_MAX}", f"-max_len={OCTETS_MAX}", "-rss_limit_mb=1024"]
    atheris.Setup([sys.argv[0], *words, "-print_final_stats=1", f"-artifact_prefix={finds}/", str(folder), str(finds)],
                  targets.TARGETS[name])  # fmt: skip
    atheris.Fuzz()


if __name__ == "__main__":
    main()
