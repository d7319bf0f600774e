// A Plotly chart that is updated in place. See live_plot.py for what arrives in `data`. Its numbers are numbers.js's.

const charts = new Map(); // by id; bounded, so that a long session does not gather charts it no longer shows
const flips = new Map(); // by id: what a flip book shows in place of what was sent; bounded, too
const MOST_CHARTS = 24;
const QUIET = 1000; // ms
const CONTRAST = 4.5; // of words against the page, at least
const LEAST_LARGE = 18; // px, of words on a projector
const NARROW = 560; // px; a chart on a phone has less
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

// `bytes` is a view into a larger, unaligned message: copy it before looking at it as floats. `become` has colours, and
// what they are instead where the page is dark.
function unpack(bytes, become) {
  const copy = bytes.slice();
  const length = new DataView(copy.buffer).getUint32(0, true);
  const text = new TextDecoder().decode(copy.subarray(4, 4 + length));
  const head = JSON.parse(text, (_, value) => (typeof value === "string" && become[value]) || value);
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

// ---- colours ---------------------------------------------------------------------------------------------------------

// Red, green and blue of `#rrggbb` or `rgb(…)`; null for any other.
function parts(colour) {
  const hex = /^#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})$/i.exec(colour);
  if (hex) return hex.slice(1).map(part => parseInt(part, 16));
  const numbers = /^rgb\(\s*(\d+)[,\s]+(\d+)[,\s]+(\d+)\s*\)$/.exec(colour);
  return numbers && numbers.slice(1).map(Number);
}

function luminance(colour) {
  const [red, green, blue] = colour.map(part => (part > 10 ? ((part / 255 + 0.055) / 1.055) ** 2.4 : part / 255 / 12.92));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function contrast(one, other) {
  const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
}

// The page's colours, and how a colour is written so that words in it can be read on the page: as it is, or with as much
// of the text's colour as it takes. What has a task's colour keeps its hue.
function look(element) {
  const style = getComputedStyle(element);
  const colour = (name, other) => style.getPropertyValue(name).trim() || other;
  const paper = {
    text: colour("--st-text-color", "#1C2130"),
    grid: colour("--st-border-color", "#DDE0E8"),
    back: colour("--st-background-color", "#FFFFFF"),
    hover: colour("--st-secondary-background-color", "#F4F5F8"),
    font: colour("--st-font", "sans-serif"),
  };
  const back = parts(paper.back) ?? [255, 255, 255];
  const text = parts(paper.text) ?? [28, 33, 48];
  const known = new Map();
  paper.dark = luminance(back) < 0.18;
  paper.readable = colour => {
    if (!known.has(colour)) {
      const given = parts(colour);
      let found = given;
      for (let share = 0; given && share <= 1 && contrast(found, back) < CONTRAST; share += 0.05) {
        found = given.map((part, place) => Math.round(part + share * (text[place] - part)));
      }
      known.set(colour, found === given ? colour : `rgb(${found.join(", ")})`);
    }
    return known.get(colour);
  };
  paper.words = words => words.replace(/color:\s*(#[0-9a-f]{6})/gi, (_, found) => `color:${paper.readable(found)}`);
  return paper;
}

const axes = layout => Object.keys(layout).filter(name => /^[xy]axis[0-9]*$/.test(name));

// Text, grid and hover take the page's colours, so that a switch of theme needs no new data.
function themed(layout, paper, onHeat) {
  const axis = own => ({
    gridcolor: paper.grid, linecolor: paper.grid, tickcolor: paper.grid, automargin: false, ...own,
    ...(own?.ticktext && { ticktext: own.ticktext.map(paper.words) }),
  });
  const note = own => (onHeat(own) || own.bgcolor ? own : {
    ...own, text: paper.words(own.text), font: { ...own.font, color: paper.readable(own.font?.color ?? paper.text) },
  });
  return {
    ...layout,
    autosize: true,
    font: { ...layout.font, color: paper.text, family: paper.font },
    hoverlabel: { bgcolor: paper.hover, bordercolor: paper.grid, ...layout.hoverlabel, font: { size: 13, color: paper.text } },
    ...(layout.annotations && { annotations: layout.annotations.map(note) }),
    ...Object.fromEntries(["xaxis", "yaxis", ...axes(layout)].map(name => [name, axis(layout[name])])),
  };
}

// ---- words -----------------------------------------------------------------------------------------------------------

// For a projector: words, and the room that is left for them, so many times as large.
function larger(value, scale, key = "") {
  if (Array.isArray(value)) return value.map(one => larger(one, scale, key));
  if (typeof value === "string") {
    return value.replace(/font-size:\s*(\d+)px/g, (_, size) => `font-size:${Math.max(LEAST_LARGE, scale * size)}px`);
  }
  if (typeof value === "number" && ["xshift", "yshift", "ax", "ay", "thickness"].includes(key)) return scale * value;
  if (value === null || typeof value !== "object" || ArrayBuffer.isView(value)) return value;
  const found = Object.fromEntries(Object.entries(value).map(([name, one]) => [name, larger(one, scale, name)]));
  if (key.endsWith("font") && found.size) found.size = Math.max(LEAST_LARGE, scale * found.size);
  if (key === "margin") return Object.fromEntries(Object.entries(found).map(([side, room]) => [side, scale * room]));
  return found;
}

const plain = text => text.replace(/<[^>]*>/g, "");
let measure = null;

// How wide and high some words are, in px.
function size(text, font) {
  measure ??= document.createElement("canvas").getContext("2d");
  measure.font = `${text.includes("<b>") ? 600 : 400} ${font.size}px ${font.family}`;
  const lines = text.split(/<br>/i).map(line => measure.measureText(plain(line)).width);
  return { wide: Math.max(...lines), high: 1.15 * font.size * lines.length };
}

// Where something lies on an axis of a chart that is so wide or high, in px from the left or the bottom; null where that
// is not known before it is drawn.
function place(layout, letter, ref, value, start, room) {
  if (ref === "paper") return start + value * room;
  const axis = layout[`${letter}axis${(ref ?? letter).slice(1)}`];
  if (!axis?.range) return null;
  const [from, to] = axis.domain ?? [0, 1];
  const share = (value - axis.range[0]) / (axis.range[1] - axis.range[0]);
  return start + (from + share * (to - from)) * room;
}

const overlap = (one, other) => one.left < other.right && other.left < one.right && one.top < other.bottom && other.top < one.bottom;

// On a phone: no room at the right that nothing stands in, a line of the legend below the other, few numbers on the axis,
// and words in their shorter form (their `name`) where they have one.
function narrowed(layout, traces, width) {
  const margin = { ...layout.margin };
  const beside = (layout.annotations ?? []).filter(note => note.xref === "paper" && note.x >= 1 && note.xanchor === "left");
  const isTaken = axes(layout).some(name => layout[name].side === "right") || traces.some(trace => trace.colorbar || trace.marker?.colorbar);
  if (!isTaken) {
    const needed = beside.map(note => 6 + (note.xshift ?? 0) + size(note.text, { ...layout.font, ...note.font }).wide);
    margin.r = Math.min(margin.r ?? 80, Math.max(16, ...needed));
  }
  if (layout.showlegend && layout.legend?.orientation === "h") {
    const named = traces.filter(trace => trace.name && trace.showlegend !== false);
    let [lines, used] = [1, 0];
    for (const { name } of named) {
      used += 54 + size(name, { ...layout.font, ...layout.legend.font }).wide;
      if (used > width - (margin.l ?? 0)) [lines, used] = [lines + 1, 54 + size(name, { ...layout.font, ...layout.legend.font }).wide];
    }
    margin.t = (margin.t ?? 100) + (lines - 1) * 1.5 * layout.font.size;
  }
  const numbers = name => {
    const [from, to] = layout[name].domain ?? [0, 1];
    const room = (to - from) * (width - (margin.l ?? 80) - (margin.r ?? 80));
    const nticks = Math.max(2, Math.floor(room / (4 * layout.font.size)));
    return layout[name].ticktext ? layout[name] : { nticks, tickangle: 0, ...layout[name] };
  };
  return {
    ...layout, margin,
    annotations: layout.annotations?.map(note => (note.name ? { ...note, text: note.name } : note)),
    ...Object.fromEntries(axes(layout).filter(name => name.startsWith("x")).map(name => [name, numbers(name)])),
  };
}

// Words that would stand on others are left out, the later ones.
function fitted(layout, onHeat, width, height) {
  const room = { l: 80, r: 80, t: 100, b: 80, ...layout.margin };
  const [wide, high] = [width - room.l - room.r, height - room.t - room.b];
  const standing = [];
  const annotations = layout.annotations?.map(note => {
    if (note.showarrow || onHeat(note)) return note;
    const x = place(layout, "x", note.xref, note.x, room.l, wide);
    const y = place(layout, "y", note.yref, note.y, room.b, high);
    if (x === null || y === null) return note;
    const side = note.xanchor ?? (note.xref === "paper" ? ["left", "center", "right"][Math.min(2, Math.floor(3 * note.x))] : "center");
    const end = note.yanchor ?? (note.yref === "paper" ? ["bottom", "middle", "top"][Math.min(2, Math.floor(3 * note.y))] : "middle");
    const words = size(note.text, { ...layout.font, ...note.font });
    const left = x + (note.xshift ?? 0) - { left: 0, center: words.wide / 2, right: words.wide }[side];
    const top = height - y - (note.yshift ?? 0) - { top: 0, middle: words.high / 2, bottom: words.high }[end];
    const box = { left, right: left + words.wide, top: top + 1, bottom: top + words.high - 1 };
    const isAmong = note.xref !== "paper" && box.bottom > room.t; // the lines, and so not beside them on an axis
    const isBeside = isAmong && (box.left < room.l - 6 || box.right > width - room.r + 6);
    if (isBeside || standing.some(other => overlap(box, other))) return { ...note, visible: false };
    standing.push(box);
    return note;
  });
  const across = axes(layout).filter(name => name.startsWith("x") && layout[name].ticktext && layout[name].range);
  return {
    ...layout, annotations,
    ...Object.fromEntries(across.map(name => {
      const axis = layout[name];
      let free = -Infinity;
      const ticktext = axis.ticktext.map((text, number) => {
        const middle = place(layout, "x", name.replace("axis", ""), axis.tickvals[number], room.l, wide);
        const half = size(String(text), { ...layout.font, ...axis.tickfont }).wide / 2;
        if (middle - half < free) return "";
        free = middle + half + 4;
        return text;
      });
      return [name, { ...axis, ticktext }];
    })),
  };
}

// ---- the component ---------------------------------------------------------------------------------------------------

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
  const [frame, title, view, element, button] = ["div", "div", "div", "div", "button"].map(kind => document.createElement(kind));
  const chart = { frame, title, view, element, queue: Promise.resolve() };
  frame.className = "lab-chart";
  frame.tabIndex = 0;
  frame.role = "group";
  title.className = "lab-title";
  title.append(document.createElement("b"), document.createElement("span"));
  button.type = "button";
  button.textContent = "Numbers";
  button.title = "The numbers of this chart as a table (key n)";
  button.onclick = () => openNumbers(chart);
  frame.onkeydown = event => {
    if (event.key !== "n" || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("dialog")) return;
    event.stopPropagation();
    openNumbers(chart);
  };
  view.append(element);
  frame.append(title, button, view); // so that Tab comes to it before Plotly's own
  new ResizeObserver(() => { if (chart.head && frame.clientWidth !== chart.width) show(chart); }).observe(frame);
  return chart;
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

function openNumbers(chart) {
  const head = flipped(chart.head, flips.get(chart.head.id));
  import(chart.numbers).then(it => it.open({ ...chart, head })).catch(console.error);
}

// Draw what is the latest by the time that Plotly is free: it may be slower than frames come.
function show(chart) {
  if (chart.waits) return;
  chart.waits = true;
  chart.queue = chart.queue
    .then(() => loadPlotly(chart.library))
    .then(Plotly => {
      chart.waits = false;
      const head = flipped(chart.head, flips.get(chart.head.id));
      const heats = new Set(head.data.filter(trace => trace.type === "heatmap").map(trace => `${trace.xaxis ?? "x"} ${trace.yaxis ?? "y"}`));
      const onHeat = note => heats.has(`${note.xref ?? "x"} ${note.yref ?? "y"}`);
      chart.width = chart.frame.clientWidth;
      let layout = themed(head.layout, chart.paper, onHeat);
      if (head.scale !== 1) layout = larger(layout, head.scale);
      const height = head.height - furtherLines(chart.title);
      const width = Math.max(chart.width, head.least);
      chart.element.style.height = `${height}px`;
      chart.element.style.minWidth = `${head.least}px`;
      if (chart.width < head.least) { // it is scrolled sideways, by keys too
        Object.assign(chart.view, { tabIndex: 0, role: "group", ariaLabel: head.title || head.called });
        chart.view.style.overflow = "auto hidden";
      }
      if (chart.width && width < NARROW * head.scale) layout = narrowed(layout, head.data, width);
      if (chart.width) layout = fitted(layout, onHeat, width, height);
      return Plotly.react(
        chart.element,
        head.scale === 1 ? head.data : larger(head.data, head.scale),
        { ...layout, height, uirevision: head.id },
        { responsive: true, displaylogo: false, displayModeBar: "hover", modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"] },
      );
    })
    .then(() => chart.listening || listen(chart))
    .catch(console.error);
}

// `plotly` and `numbers` are addresses; `dark` says what colours become where the page is dark.
export default function ({ data, parentElement, setTriggerValue }, { plotly, numbers, dark }) {
  const paper = look(parentElement);
  const head = unpack(data, paper.dark ? dark : {});
  const chart = charts.get(head.id) ?? empty();
  charts.delete(head.id);
  charts.set(head.id, chart); // the last is the one used last, whenever it was made
  if (charts.size > MOST_CHARTS) {
    const [unused, { element }] = charts.entries().next().value;
    window.Plotly?.purge(element);
    charts.delete(unused);
  }
  Object.assign(chart, { head, paper, library: plotly, numbers });
  chart.pick = head.picks ? value => setTriggerValue("picked", value) : null;
  chart.title.hidden = !head.title;
  chart.title.firstChild.textContent = head.title;
  chart.title.lastChild.textContent = head.aside && ` (${head.aside})`;
  chart.frame.ariaLabel = `${head.title || head.called || "A chart"}; the key n shows its numbers`;
  if (chart.frame.parentNode !== parentElement) {
    for (const open of chart.frame.querySelectorAll("dialog")) open.remove(); // it would not be modal any more
    parentElement.append(chart.frame);
  }
  show(chart);
  return () => { if (chart.frame.parentNode === parentElement) chart.frame.remove(); };
}
