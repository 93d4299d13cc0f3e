"""Brings the tables of ``benchmarks/README.md`` up to date with ``results/``.

    python -m benchmarks.readme

What stands between ``<!-- NAME -->`` and ``<!-- /NAME -->`` is made from the JSON file of
that name, so no figure in the README can be one that was not measured.
"""

import re
from pathlib import Path

from benchmarks.analysis_table import ANALYSIS
from benchmarks.engine_table import ENGINE
from benchmarks.markdown import NOT_MEASURED
from benchmarks.peer_chart import chart_name
from benchmarks.peer_results import PeerRun, peer_markdown, read_peer_runs
from benchmarks.results import RESULTS, read_runs
from benchmarks.service_table import SERVICE
from benchmarks.table import table_markdown
from benchmarks.volume_table import VOLUMES

README = Path(__file__).with_name("README.md")
TABLES = (ENGINE, VOLUMES, SERVICE, ANALYSIS)
"""The tables whose rows have a target each."""


def sections(results: Path) -> dict[str, str]:
    """What each marked section of the README must hold."""
    found = {}
    for table in TABLES:
        path = results / table.file_name
        found[table.name] = table_markdown(table, read_runs(path) if path.exists() else [])
    peers = results / "peers.json"
    runs = read_peer_runs(peers) if peers.exists() else []
    found["peers"] = "\n\n".join(map(_peers_with_charts, runs)) or NOT_MEASURED
    return found


def _peers_with_charts(run: PeerRun) -> str:
    charts = [f"![{title}](results/{chart_name(name)})" for name, title in run.image_sets.items()]
    return "\n\n".join([peer_markdown(run), *charts])


def updated(text: str, results: Path) -> str:
    """The README *text* with its marked sections made anew from *results*."""
    for name, content in sections(results).items():
        pattern = re.compile(f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        assert len(pattern.findall(text)) == 1, f"the README has one section '{name}'"
        text = pattern.sub(lambda found: f"{found[1]}{content}\n{found[2]}", text)  # noqa: B023 (called at once)
    return text


def main() -> None:
    README.write_text(updated(README.read_text("utf-8"), RESULTS), "utf-8")


if __name__ == "__main__":
    main()
