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
    chart.trace("scatter", x=list(range(100_000)), y=list(range(100_000)), customdata=list(range(100_000)))
    data = live_plot.pack(chart, Head("k", 100))
    head, columns = unpack(data)
    assert head["data"][0]["customdata"] == columns[0], "what is told of a point stays with it"
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
  querySelectorAll: () => [],
});
globalThis.ResizeObserver = class { observe() {} };
globalThis.document = { createElement: element };
globalThis.window = { Plotly: { react: async () => {}, purge: element => purged.push(element.name) } };
globalThis.getComputedStyle = () => ({ getPropertyValue: () => "" });
const { default: draw } = await import(process.argv[2]);
for (const name of JSON.parse(process.argv[3])) {
  const bytes = new Uint8Array(fs.readFileSync(`${process.argv[4]}/${name}`));
  draw({ data: bytes, parentElement: { append: frame => { frame.parts[2].parts[0].name = name } } }, {});
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


# Tells of a packed chart what its numbers are as tables, in which the words of cells are joined by a bar.
TABLES = """
import fs from "node:fs";
const { tables } = await import(process.argv[2]);
const found = tables(JSON.parse(fs.readFileSync(process.argv[3]))).map(table => ({
  ...table, head: table.head.join("|"),
  rows: table.rows.map(row => [row.name, ...row.cells.map(cell => cell.text)].join("|")),
}));
console.log(JSON.stringify(found));
"""


def tables(chart: Chart, folder: Path) -> list[dict[str, Any]]:
    module = folder / "numbers.mjs"
    shutil.copy(Path(live_plot.__file__).parent / "assets" / "numbers.js", module)
    (folder / "tables.mjs").write_text(TABLES)
    (folder / "chart.json").write_text(json.dumps(chart.as_json))
    command = ["node", folder / "tables.mjs", module, folder / "chart.json"]
    told = subprocess.run(command, capture_output=True, check=True, text=True, timeout=60)
    found: list[dict[str, Any]] = json.loads(told.stdout)
    return found


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_a_charts_numbers_are_a_table_a_panel(tmp_path: Path) -> None:
    chart = Chart()
    percent = {"tickvals": [0, 100], "ticktext": ["0 %", "100 %"]}
    chart.trace("scatter", x=[0, 1200], y=[50, 75.25], name="a <b>job</b>")
    chart.trace("scatter", x=[1200], y=[80], error_y={"array": [2]}, name="measured", mode="markers")
    chart.trace("scatter", x=[0], y=[50], name="for the eye", hoverinfo="skip")
    rows = {"tickvals": [0, 1], "ticktext": ["<span style='color:#000000'>■</span> after<br>one", "after two"]}
    chart.trace("heatmap", x=[0, 1], y=[0, 1], z=[[90, None], [40.5, 1e-9]], xaxis="x2", yaxis="y2",
                hovertemplate="%{z:.1f} %<extra></extra>")  # fmt: skip
    chart.trace("bar", x=[3, 4], y=[1, 0], orientation="h", xaxis="x3", yaxis="y3")
    chart.set(yaxis=percent, xaxis={"title": {"text": "images"}}, yaxis2=rows, yaxis3=rows)
    chart.set(xaxis2={"domain": [0.5, 1.0]}, xaxis3={"title": {"text": "seconds"}})
    chart.note(x=0.5, xref="paper", y=1.0, yref="paper", text="<b>Matrix</b>")
    lines, matrix, bars = tables(chart, tmp_path)
    assert lines["head"] == "images|a job|measured"
    assert lines["rows"] == ["0|50 %|", "1,200|75.25 %|80 % ± 2"]
    assert (matrix["caption"], matrix["head"]) == ("Matrix", "|0|1")
    assert matrix["rows"] == ["after one|90 %|–", "after two|40.5 %|0.000000001 %"]
    assert (bars["head"], bars["rows"]) == ("|seconds", ["after one|4", "after two|3"])

    long = Chart()
    long.trace("scatter", x=list(range(1000)), y=list(range(1000)))
    (table,) = tables(long, tmp_path)
    assert (len(table["rows"]), table["of"]) == (200, 1000)
    assert (table["rows"][0], table["rows"][-1]) == ("0|0", "999|999")

    plane = Chart()
    plane.trace("scatter", x=[1, 2], y=[3, 4], mode="markers", marker={"color": [70.0, 80.0]})
    plane.trace("scatter", x=[5], y=[6], mode="markers+text", text=["job 1 of 2"], customdata=["40.0"],
                marker={"color": "#123456"})  # fmt: skip
    (table,) = tables(plane, tmp_path)
    assert table["rows"] == ["1|1|3|70", "2|2|4|80", "job 1 of 2|5|6|40.0"]
    assert tables(Chart(), tmp_path) == []
