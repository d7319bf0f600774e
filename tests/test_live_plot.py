import json
import math
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labcore.drawings.charts import Chart
from pages.parts import live_plot
from pages.parts.live_plot import Head


def unpack(data: bytes) -> tuple[dict[str, Any], list[list[Any]]]:
    (length,) = struct.unpack_from("<I", data)
    assert length % 4 == 0
    head = json.loads(data[4 : 4 + length])
    numbers, columns, start = np.frombuffer(data, "<f4", offset=4 + length), [], 0
    for trace in head["data"]:
        for name in ("x", "y", "z"):
            if isinstance(trace.get(name), dict):
                count = math.prod(trace[name]["shape"])
                columns.append(numbers[start : start + count].reshape(trace[name]["shape"]).tolist())
                start += count
    assert start == len(numbers)
    return head, columns


def test_numbers_travel_as_columns_and_words_as_json() -> None:
    chart = Chart()
    chart.trace("scatter", x=[0, 1, 2], y=[1.5, None, 2.5], name="a")
    chart.trace("bar", x=["p", "q"], y=[1, 2])
    head, columns = unpack(live_plot.pack(chart, Head("k", 200, title="What", aside="%")))
    assert isinstance(chart.traces[0]["x"], list)  # the chart itself is as it was
    assert (head["id"], head["height"], head["title"], head["aside"]) == ("k", 200, "What", "%")
    assert head["data"][1]["x"] == ["p", "q"]
    assert columns[0] == [0, 1, 2]
    assert columns[1][0] == 1.5
    assert math.isnan(columns[1][1])
    assert columns[2] == [1, 2]


def test_a_heat_map_keeps_its_rows_and_gaps() -> None:
    chart = Chart()
    chart.trace("heatmap", z=[[1, None], [2, 3], [4, 5]])
    head, columns = unpack(live_plot.pack(chart, Head("k", 100)))
    assert head["data"][0]["z"]["shape"] == [3, 2]
    assert columns[0][2] == [4, 5]
    assert math.isnan(columns[0][0][1])


def test_long_lines_are_thinned_and_keep_their_ends() -> None:
    chart = Chart()
    chart.trace("scatter", x=list(range(100_000)), y=list(range(100_000)))
    data = live_plot.pack(chart, Head("k", 100))
    _, columns = unpack(data)
    assert len(columns[0]) == live_plot.MOST_POINTS
    assert (columns[0][0], columns[0][-1]) == (0, 99_999)
    assert columns[0] == columns[1]
    assert len(data) < 10_000


def test_an_empty_chart_can_be_sent() -> None:
    head, columns = unpack(live_plot.pack(Chart(), Head("k", 100)))
    assert (head["data"], columns) == ([], [])


def test_a_tick_without_news_makes_no_chart() -> None:
    made = []

    def make() -> Chart:
        made.append(1)
        chart = Chart()
        chart.trace("scatter", x=[len(made)], y=[1])
        return chart

    charts: dict[str, Any] = {}
    head = Head("k", 100)
    first = live_plot.remembered(charts, make, head, version=7)
    assert live_plot.remembered(charts, make, head, version=7) == first
    assert len(made) == 1
    assert live_plot.remembered(charts, make, head, version=8) != first
    assert b"Another" in live_plot.remembered(charts, make, Head("k", 100, title="Another"), version=8)
    for number in range(3 * live_plot.MOST_REMEMBERED):
        live_plot.remembered(charts, make, Head(str(number), 100), version=0)
    assert len(charts) == live_plot.MOST_REMEMBERED


# Draws charts by name in a page of stand-ins, and tells which were thrown away.
BROWSER = """
import fs from "node:fs";
const purged = [];
const text = () => ({ textContent: "" });
const element = () => ({
  style: {}, firstChild: text(), lastChild: text(), append(...parts) { this.parts = parts; }, remove() {}, on() {},
});
globalThis.document = { createElement: element };
globalThis.window = { Plotly: { react: async () => {}, purge: element => purged.push(element.name) } };
globalThis.getComputedStyle = () => ({ getPropertyValue: () => "" });
const { default: draw } = await import(process.argv[2]);
for (const name of JSON.parse(process.argv[3])) {
  const bytes = new Uint8Array(fs.readFileSync(`${process.argv[4]}/${name}`));
  draw({ data: bytes, parentElement: { append: frame => { frame.parts[1].parts[0].name = name } } }, "");
}
console.log(JSON.stringify(purged));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_the_chart_that_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    module = tmp_path / "live_plot.mjs"
    shutil.copy(Path(live_plot.__file__).parent / "assets" / "live_plot.js", module)
    (tmp_path / "browser.mjs").write_text(BROWSER)
    names = [str(number) for number in range(24)]  # as many as are kept
    for name in [*names, "new"]:
        (tmp_path / name).write_bytes(live_plot.pack(Chart(), Head(name, 100)))
    drawn = json.dumps([*names, "0", "new"])
    command = ["node", tmp_path / "browser.mjs", module, drawn, tmp_path]
    told = subprocess.run(command, capture_output=True, check=True, text=True, timeout=60)
    assert json.loads(told.stdout) == ["1"]
