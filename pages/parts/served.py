"""What is served beside the pages, and at which addresses: what draws charts, news of runs, and jobs' pictures."""

from importlib.util import find_spec
from pathlib import Path


def _package(name: str) -> Path:
    """A package's folder, found without importing it."""
    spec = find_spec(name)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent


def _address(path: Path) -> str:
    """Where a file is served, below the app's own address: another place once it has changed."""
    return f"charts/{path.stat().st_mtime_ns:x}/{path.name}"


PLOTLY_FILE = _package("plotly") / "package_data" / "plotly.min.js"
CHART_FILE = Path(__file__).parent / "assets" / "live_plot.js"
NUMBERS_FILE = Path(__file__).parent / "assets" / "numbers.js"
PLOTLY, CHART, NUMBERS = _address(PLOTLY_FILE), _address(CHART_FILE), _address(NUMBERS_FILE)
NEWS, PICTURES = "news", "pictures"
