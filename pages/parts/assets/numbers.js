// The numbers of a chart as tables, made from what the chart itself is drawn from. live_plot.js fetches this when somebody
// asks for them.

const MOST_ROWS = 200;
const MOST_COLUMNS = 100;

// ---- which numbers ---------------------------------------------------------------------------------------------------

const plain = text => String(text).replace(/<br>/gi, " ").replace(/<[^>]*>/g, "").replace(/■\s*/g, "").trim();

function told(number, suffix = "") {
  if (typeof number !== "number") return plain(number ?? "–");
  if (!Number.isFinite(number)) return "–";
  return number.toLocaleString("en", Number.isInteger(number) ? {} : { maximumSignificantDigits: 4 }) + suffix;
}

// An axis of a chart, as far as a table needs it: the words of its values, where it has words, and what it is called.
function reader(layout, letter, ref) {
  const axis = layout[`${letter}axis${ref.slice(1)}`] ?? {};
  let words = axis.ticktext ?? [];
  if (words.length && words.every(word => !word)) words = layout[`${letter}axis`]?.ticktext ?? []; // beside the first panel
  const values = Array.from(axis.tickvals ?? []);
  const isNumber = words.length > 0 && words.every((word, place) => !word || parseFloat(plain(word)) === values[place]);
  const suffix = axis.ticksuffix || (isNumber && /\s%$/.test(plain(words.at(-1))) ? " %" : "");
  const names = new Map(isNumber ? [] : words.map((word, place) => [values[place], plain(word)]));
  return {
    title: plain(axis.title?.text ?? ""),
    domain: axis.domain ?? [0, 1],
    name: value => names.get(value) ?? (typeof value === "string" ? plain(value) : undefined),
    names: found => found.length > 0 && found.every(value => typeof value === "string" || names.has(value)),
    told: value => names.get(value) ?? told(value, suffix),
  };
}

// The bold words above a panel.
function caption(layout, x, y) {
  const above = (layout.annotations ?? []).filter(note => note.text?.startsWith("<b>") && note.xref === "paper"
    && Math.abs(note.x - x.domain[0]) < 0.02 && note.y > y.domain[1] - 0.05);
  return plain(above.sort((a, b) => a.y - b.y)[0]?.text ?? "");
}

// So many of some rows, evenly chosen, the first and the last among them.
function some(rows) {
  if (rows.length <= MOST_ROWS) return rows;
  return Array.from({ length: MOST_ROWS }, (_, place) => rows[Math.round((place * (rows.length - 1)) / (MOST_ROWS - 1))]);
}

function matrix(number, trace, x, y) {
  const columns = trace.x ? Array.from(trace.x) : Array.from(trace.z[0] ?? [], (_, place) => place);
  const rows = trace.y ? Array.from(trace.y) : trace.z.map((_, place) => place);
  const over = trace.customdata?.[0];
  const suffix = /%\{z[^}]*\} %/.test(trace.hovertemplate ?? "") ? " %" : "";
  return {
    head: [y.title, ...columns.map((value, place) => x.name(value) ?? (over ? plain(over[place]) : told(value)))],
    rows: rows.map((value, row) => ({
      name: y.name(value) ?? told(value),
      cells: columns.map((at, column) => ({
        text: plain(trace.text?.[row]?.[column] ?? told(trace.z[row][column], suffix)),
        pick: { trace: number, point: [row, column], x: at, y: value },
      })),
    })),
  };
}

// Points that no line joins: a row for each.
function points(traces, x, y) {
  const shades = trace => (Array.isArray(trace.marker?.color) && typeof trace.marker.color[0] === "number" ? trace.marker.color : null);
  const shaded = traces.some(({ trace }) => shades(trace));
  // Of a point that has no shade among such that have one, its own words tell what it is worth.
  const value = (trace, place) => (shades(trace) ? told(trace.marker.color[place]) : plain(`${trace.customdata?.[place] ?? ""}`));
  const name = (trace, place) => {
    if (shades(trace)) return trace.name ?? place + 1;
    const own = shaded ? trace.text?.[place] : trace.customdata?.[place];
    return typeof own === "string" ? own : trace.name ?? place + 1;
  };
  const rows = traces.flatMap(({ trace, number }) => Array.from(trace.x, (at, place) => ({
    name: plain(`${name(trace, place)}`),
    cells: [x.told(at), y.told(trace.y[place]), ...(shaded ? [value(trace, place)] : [])].map(text => ({
      text, pick: { trace: number, point: [place], x: at, y: trace.y[place] },
    })),
  })));
  return { head: ["", x.title || "across", y.title || "up", ...(shaded ? ["value"] : [])], rows };
}

// Lines and bars: a row for each place along, a column for each trace.
function series(traces, x, y) {
  const isLying = traces.some(({ trace }) => trace.orientation === "h")
    || traces.every(({ trace }) => y.names(Array.from(trace.y ?? [])) && !x.names(Array.from(trace.x ?? [])));
  const [along, up] = isLying ? [y, x] : [x, y];
  const rows = new Map();
  traces.forEach(({ trace, number }, column) => {
    const values = trace[isLying ? "x" : "y"];
    const keys = trace[isLying ? "y" : "x"] ?? Array.from(values, (_, place) => place);
    const errors = (isLying ? trace.error_x : trace.error_y)?.array;
    keys.forEach((key, place) => {
      const named = typeof trace.customdata?.[place] === "string" ? plain(trace.customdata[place]) : undefined;
      if (!rows.has(key)) rows.set(key, { name: along.name(key) ?? named ?? along.told(key), key, cells: traces.map(() => ({ text: "" })) });
      const doubt = errors?.[place] ? ` ± ${told(errors[place])}` : "";
      const text = typeof trace.text?.[place] === "string" ? plain(trace.text[place]) : up.told(values[place]) + doubt;
      const pick = { trace: number, point: [place], x: isLying ? values[place] : key, y: isLying ? key : values[place] };
      rows.get(key).cells[column] = { text, pick };
    });
  });
  const inOrder = [...rows.values()].sort((a, b) => (typeof a.key === "number" && typeof b.key === "number" ? a.key - b.key : 0));
  return { head: [along.title, ...traces.map(({ trace }) => plain(trace.name || up.title || "value"))], rows: inOrder };
}

// A table for each panel of a chart: { caption, head, rows, of }, where `of` is how many rows there would be in all. What
// the pointer says nothing of is there for the eye alone, and is no number of its own.
export function tables({ data, layout }) {
  const panels = new Map();
  data.forEach((trace, number) => {
    const at = `${trace.xaxis ?? "x"} ${trace.yaxis ?? "y"}`;
    if (trace.hoverinfo !== "skip") panels.set(at, [...(panels.get(at) ?? []), { trace, number }]);
  });
  return [...panels].map(([at, traces]) => {
    const [x, y] = at.split(" ").map((ref, place) => reader(layout, "xy"[place], ref));
    const heat = traces.find(({ trace }) => trace.type === "heatmap");
    const areLoose = traces.every(({ trace }) => trace.type === "scatter" && trace.mode && !trace.mode.includes("lines")
      && trace.x && !x.names(Array.from(trace.x)) && !y.names(Array.from(trace.y)));
    const { head, rows } = heat ? matrix(heat.number, heat.trace, x, y) : areLoose ? points(traces, x, y) : series(traces, x, y);
    const of = Math.max(rows.length, ...traces.map(({ trace }) => trace.meta?.of ?? 0));
    const cut = some(rows).map(row => ({ ...row, cells: row.cells.slice(0, MOST_COLUMNS) }));
    return { caption: caption(layout, x, y), head: head.slice(0, MOST_COLUMNS + 1), rows: cut, of };
  });
}

// ---- the window ------------------------------------------------------------------------------------------------------

function make(kind, attributes = {}, ...children) {
  const element = Object.assign(document.createElement(kind), attributes);
  element.append(...children);
  return element;
}

function drawn(table, chart, close) {
  const cell = ({ text, pick }) => {
    if (!chart.pick || !pick || !text) return make("td", { textContent: text });
    return make("td", {}, make("button", { type: "button", textContent: text, onclick: () => { close(); chart.pick(pick); } }));
  };
  const head = make("tr", {}, ...table.head.map((text, place) => text || place ? make("th", { textContent: text, scope: "col" }) : make("td")));
  const rows = table.rows.map(row => make("tr", {}, make("th", { textContent: row.name, scope: "row" }), ...row.cells.map(cell)));
  const caption = table.caption ? [make("caption", { textContent: table.caption })] : [];
  const scrolled = make("div", { tabIndex: 0, role: "region", ariaLabel: table.caption || "Numbers" }, make(
    "table", {}, ...caption, make("thead", {}, head), make("tbody", {}, ...rows),
  ));
  const note = table.of > table.rows.length ? [make("p", { textContent: `${table.rows.length} of ${table.of.toLocaleString("en")} rows, evenly chosen.` })] : [];
  return [scrolled, ...note];
}

// Opens the numbers of a chart as they are now. Where a click in the chart chooses something, so does one on its number.
export function open(chart) {
  const title = chart.head.title || chart.head.called || "The numbers of this chart";
  const window = make("dialog", { className: "lab-window lab-numbers", ariaLabel: `Numbers: ${title}` });
  const close = () => window.close();
  window.onclose = () => window.remove();
  window.onclick = event => { if (event.target === window) close(); };
  const found = tables(chart.head);
  const body = found.length ? found.flatMap(table => drawn(table, chart, close)) : [make("p", { textContent: "There is nothing in it yet." })];
  window.append(
    make("header", {}, make("h2", { textContent: title }), make("button", { type: "button", textContent: "Close", onclick: close })),
    ...(chart.pick && found.length ? [make("p", { textContent: "Press a number to choose it, as by a click in the chart." })] : []),
    ...body,
  );
  chart.frame.append(window);
  window.showModal();
}
