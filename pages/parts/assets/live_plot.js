// A Plotly chart that is updated in place. See live_plot.py for what arrives in `data`.

const charts = new Map(); // by id; bounded, so that a long session does not gather charts it no longer shows
const flips = new Map(); // by id: what a flip book shows in place of what was sent; bounded, too
const MOST_CHARTS = 24;
const QUIET = 1000; // ms
const INPUTS = ["pointermove", "pointerdown", "wheel", "keydown"];
let library = null;

function loadPlotly(url) {
  library ??= new Promise((resolve, reject) => {
    if (window.Plotly) return resolve(window.Plotly); // an earlier version of this module did
    const script = document.createElement("script");
    script.src = url;
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => { library = null; reject(new Error("Plotly did not load")); };
    document.head.append(script);
  });
  return library;
}

// A page without charts leads to one with them. Plotly takes the page half a second or more to take in, so it comes when
// the person has left mouse and keys alone for a while: the next page has its charts as much sooner.
export function loadWhenQuiet(url) {
  let waiting;
  const wait = () => { clearTimeout(waiting); waiting = setTimeout(load, QUIET); };
  const load = () => {
    for (const kind of INPUTS) removeEventListener(kind, wait);
    requestIdleCallback(() => loadPlotly(url).catch(console.error));
  };
  for (const kind of INPUTS) addEventListener(kind, wait, { passive: true });
  wait();
}

// `bytes` is a view into a larger, unaligned message: copy it before looking at it as floats.
function unpack(bytes) {
  const copy = bytes.slice();
  const length = new DataView(copy.buffer).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(copy.subarray(4, 4 + length)));
  let offset = 4 + length;
  const columns = [];
  for (const trace of head.data) {
    for (const name of ["x", "y", "z"]) {
      const column = trace[name];
      if (!column || column.column === undefined) continue;
      const count = column.shape.reduce((a, b) => a * b, 1);
      columns.push([trace, name, new Float32Array(copy.buffer, offset, count), column.shape]);
      offset += 4 * count;
    }
  }
  for (const [trace, name, values, shape] of columns) {
    trace[name] = shape.length === 1 ? values : rows(values, shape);
  }
  return head;
}

function rows(values, [count, width]) {
  return Array.from({ length: count }, (_, row) => Array.from(values.subarray(row * width, (row + 1) * width)));
}

// Text, grid and hover take the page's colours, so that a switch of theme needs no new data.
function themed(layout, element) {
  const style = getComputedStyle(element);
  const colour = (name, other) => style.getPropertyValue(name).trim() || other;
  const text = colour("--st-text-color", "#1C2130");
  const grid = colour("--st-border-color", "#DDE0E8");
  const axis = own => ({ gridcolor: grid, linecolor: grid, tickcolor: grid, automargin: false, ...own });
  return {
    ...layout,
    autosize: true,
    font: { ...layout.font, color: text, family: colour("--st-font", "sans-serif") },
    hoverlabel: {
      bgcolor: colour("--st-secondary-background-color", "#F4F5F8"), bordercolor: grid,
      ...layout.hoverlabel, font: { size: 13, color: text },
    },
    ...Object.fromEntries(
      ["xaxis", "yaxis", ...Object.keys(layout).filter(name => /^[xy]axis[0-9]+$/.test(name))].map(name => [name, axis(layout[name])]),
    ),
  };
}

// What was clicked goes to the page once: which trace, which of its points, and where. The element lives longer than one
// mount, so the listener asks for the latest mount's way back.
function listen(chart) {
  chart.element.on("plotly_click", ({ points: [point] }) => chart.pick?.({
    trace: point.curveNumber,
    point: Array.isArray(point.pointNumber) ? point.pointNumber : [point.pointNumber],
    x: point.x,
    y: point.y,
  }));
  chart.listening = true;
}

function empty() {
  const [frame, title, view, element] = ["div", "div", "div", "div"].map(kind => document.createElement(kind));
  title.className = "lab-title";
  title.append(document.createElement("b"), document.createElement("span"));
  view.append(element);
  frame.append(title, view);
  return { frame, title, view, element, queue: Promise.resolve() };
}

// On a phone a title may take a second line: the chart gives it the room, so that nothing below moves.
function furtherLines(title) {
  return Math.max(0, title.offsetHeight - parseFloat(getComputedStyle(title).lineHeight)) || 0;
}

// A chart as it was sent, with the frame of a flip book upon it (labcore/drawings/flip_book.py).
function flipped(head, page) {
  if (!page) return head;
  const data = page.whole ? page.data : head.data.map((trace, place) => ({ ...trace, ...page.data[place] }));
  return { ...head, data, layout: { ...head.layout, ...page.layout } };
}

// Show a frame on the chart of this id, now or as soon as it is there, until there is another one.
export function flip(id, page) {
  flips.delete(id);
  flips.set(id, page);
  if (flips.size > MOST_CHARTS) flips.delete(flips.keys().next().value);
  const chart = charts.get(id);
  if (chart?.head && chart.frame.isConnected) show(chart);
}

// Draw what is the latest by the time that Plotly is free: it may be slower than frames come.
function show(chart) {
  if (chart.waits) return;
  chart.waits = true;
  chart.queue = chart.queue
    .then(() => loadPlotly(chart.library))
    .then(Plotly => {
      chart.waits = false;
      const { id, height } = chart.head;
      const { data, layout } = flipped(chart.head, flips.get(id));
      return Plotly.react(
        chart.element,
        data,
        { ...themed(layout, chart.parent), height, uirevision: id },
        { responsive: true, displaylogo: false, displayModeBar: "hover", modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"] },
      );
    })
    .then(() => chart.listening || listen(chart))
    .catch(console.error);
}

export default function ({ data, parentElement, setTriggerValue }, libraryUrl) {
  const head = unpack(data);
  const chart = charts.get(head.id) ?? empty();
  charts.delete(head.id);
  charts.set(head.id, chart); // the last is the one used last, whenever it was made
  if (charts.size > MOST_CHARTS) {
    const [unused, { element }] = charts.entries().next().value;
    window.Plotly?.purge(element);
    charts.delete(unused);
  }
  chart.pick = head.picks ? value => setTriggerValue("picked", value) : null;
  chart.title.hidden = !head.title;
  chart.title.firstChild.textContent = head.title;
  chart.title.lastChild.textContent = head.aside && ` (${head.aside})`;
  if (chart.frame.parentNode !== parentElement) parentElement.append(chart.frame);
  const height = head.height - furtherLines(chart.title);
  chart.element.style.height = `${height}px`;
  chart.element.style.minWidth = `${head.least}px`;
  if (parentElement.clientWidth < head.least) { // it is scrolled sideways, by keys too
    Object.assign(chart.view, { tabIndex: 0, role: "group", ariaLabel: head.title });
    chart.view.style.overflow = "auto hidden";
  }
  Object.assign(chart, { head: { ...head, height }, library: libraryUrl, parent: parentElement });
  show(chart);
  return () => { if (chart.frame.parentNode === parentElement) chart.frame.remove(); };
}
