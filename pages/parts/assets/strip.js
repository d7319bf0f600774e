// Answers on pictures, a row a job or a run. See labcore/drawings/strip.py for what arrives in `data`.

const strips = new Map(); // by id; bounded, so that a long session does not gather strips it no longer shows
const MOST_STRIPS = 8;
const SIDE = 44; // px of a picture in the strip
const LARGE = 168; // px of one in its window
const LINES = 5; // classes whose probability is drawn over time
const BEST = 3; // classes that are told of a picture where the job has too many for all
const ROWS = 4; // jobs that are shown before somebody asks for all

const bytes = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
const percent = share => `${Math.round((100 * share) / 255)} %`;

function make(kind, attributes = {}, ...children) {
  const element = document.createElement(kind);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in element && name !== "style") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// ---- what was said ---------------------------------------------------------------------------------------------------

// A look's guesses of each of its pictures: [class, share of 255], the most probable first.
function guesses(look, row) {
  if (look.guesses) return look.guesses;
  const shares = bytes(look.shares);
  const width = row.wide || BEST;
  const numbers = row.wide ? null : bytes(look.classes);
  const two = row.classes.length > 256;
  const label = place => (row.wide ? place % width : two ? numbers[2 * place] + 256 * numbers[2 * place + 1] : numbers[place]);
  look.guesses = [];
  for (let start = 0; start < shares.length; start += width) {
    const told = Array.from({ length: width }, (_, column) => [label(start + column), shares[start + column]]);
    look.guesses.push(told.sort((one, other) => other[1] - one[1]));
  }
  return look.guesses;
}

// What was last said of a picture by the looks up to one, or null.
function said(row, picture, last) {
  for (let number = last; number >= 0; number--) {
    const found = guesses(row.looks[number], row)[picture];
    if (found) return found;
  }
  return null;
}

// The last look up to the moment that is shown, a stage and a step; without one, the last.
function upTo(row, moment) {
  if (moment === null) return row.looks.length - 1;
  return row.looks.findLastIndex(({ at: [stage, step] }) => stage < moment[0] || (stage === moment[0] && step <= moment[1]));
}

// A picture of a row: what it is, was taken for when its job had been learnt, and is taken for now.
function told(row, picture, moment) {
  const label = row.labels[picture];
  const now = said(row, picture, upTo(row, moment));
  const learnt = row.learnt === null || upTo(row, moment) < row.learnt ? null : said(row, picture, row.learnt);
  const lost = now && learnt ? share(learnt, label) - share(now, label) : 0;
  return { picture, label, now, learnt, lost, forgotten: Boolean(now && learnt && learnt[0][0] === label && now[0][0] !== label) };
}

const share = (found, label) => found.find(([number]) => number === label)?.[1] ?? 0;

function verdict(row, found, label) {
  if (!found) return "not asked yet";
  const [number, certain] = found[0];
  return `${row.classes[number]} (${percent(certain)}), ${number === label ? "right" : "wrong"}`;
}

// ---- what a person chose stands in the address, so that a link and a reload show the same ----------------------------

// What is shown of all strips of a page, and by what word of the address.
const CHOICES = { first: "forgottenFirst", forgotten: "forgottenOnly", all: "all" };
const chosen = {};

const address = () => new URLSearchParams(location.search);

function remember(name, value) {
  const url = new URL(location.href);
  if (value) url.searchParams.set(name, value);
  else url.searchParams.delete(name);
  history.replaceState(history.state, "", url);
}

function readChoices() {
  const words = (address().get("strip") ?? "").split("-");
  for (const [word, name] of Object.entries(CHOICES)) chosen[name] = words.includes(word);
}

function choose(name) {
  chosen[name] = !chosen[name];
  remember("strip", Object.keys(CHOICES).filter(word => chosen[CHOICES[word]]).join("-"));
  for (const strip of strips.values()) if (strip.frame.isConnected) draw(strip);
}

// The picture that the address names: opened as soon as its row is there.
function openFromAddress(strip) {
  const [key, picture] = (address().get("open") ?? "").split(":");
  const row = strip.data.rows.find(one => one.key === key);
  if (row && /^\d+$/.test(picture ?? "") && Number(picture) < row.labels.length && !strip.window.open) {
    open(strip, key, Number(picture));
  }
}

// ---- drawing ---------------------------------------------------------------------------------------------------------

function image(row, picture, side) {
  const element = make("i", { className: "lab-picture", ariaHidden: "true" });
  element.style.cssText = `width:${side}px;height:${side}px`;
  if (row.pictures) {
    element.style.backgroundImage = `url("${new URL(row.pictures, document.baseURI).href}")`;
    element.style.backgroundSize = `${side * row.labels.length}px ${side}px`;
    element.style.backgroundPosition = `-${side * picture}px 0`;
  }
  return element;
}

function drawCell(strip, row, one) {
  const right = one.now && one.now[0][0] === one.label;
  const state = one.now ? (right ? "lab-right" : "lab-wrong") : "";
  const words = one.now ? `${right ? "✓" : "✗"} ${row.classes[one.now[0][0]]}` : "?";
  const is = `It is: ${row.classes[one.label]}.`;
  const hover = [is, `Now: ${verdict(row, one.now, one.label)}.`];
  if (one.learnt) hover.push(`When the job was learnt: ${verdict(row, one.learnt, one.label)}.`);
  const key = `${row.key}:${one.picture}`;
  const cell = strip.cells.get(key) ?? make("button", { type: "button" }, make("i"), make("span"));
  strip.cells.set(key, cell);
  if (cell.pictures !== row.pictures) {
    cell.pictures = row.pictures;
    cell.firstChild.replaceWith(image(row, one.picture, SIDE));
  }
  cell.className = `lab-answer ${state}`;
  cell.title = hover.join("\n");
  cell.ariaLabel = `${row.title}, picture ${one.picture + 1}. ${hover.join(" ")}`;
  cell.lastChild.textContent = words;
  cell.onclick = () => open(strip, row.key, one.picture);
  return cell;
}

function drawRow(strip, row) {
  const name = make("div", { className: "lab-strip-name" }, row.title);
  name.style.borderColor = row.colour;
  const moment = strip.data.moment;
  if (!row.labels.length) {
    return make("div", { className: "lab-strip-row" }, name, make("div", { className: "lab-strip-note" }, row.note));
  }
  let shown = row.labels.map((_, picture) => told(row, picture, moment));
  if (chosen.forgottenOnly) shown = shown.filter(one => one.forgotten);
  if (chosen.forgottenFirst) shown.sort((one, other) => other.lost - one.lost);
  const cells = shown.map(one => drawCell(strip, row, one));
  const body = cells.length
    ? make("div", { className: "lab-strip-pictures" }, ...cells)
    : make("div", { className: "lab-strip-note" }, "None of its pictures was right then and is wrong now.");
  return make("div", { className: "lab-strip-row" }, name, body);
}

function control(name) {
  const button = make("button", { type: "button" });
  button.onclick = () => choose(name);
  return button;
}

function draw(strip) {
  const { rows, title } = strip.data;
  const focused = strip.body.contains(document.activeElement) ? document.activeElement : null;
  const seen = chosen.all || rows.length <= ROWS ? rows : [...rows.slice(0, ROWS - 1), current(rows)];
  strip.title.textContent = title;
  strip.controls.all.textContent = rows.length > ROWS ? "All jobs and pictures" : "All pictures";
  for (const [name, button] of Object.entries(strip.controls)) button.ariaPressed = String(chosen[name]);
  const keys = new Set(rows.flatMap(row => row.labels.map((_, picture) => `${row.key}:${picture}`)));
  for (const key of strip.cells.keys()) if (!keys.has(key)) strip.cells.delete(key);
  strip.body.replaceChildren(...seen.map(row => drawRow(strip, row)));
  fit(strip);
  if (focused?.isConnected) focused.focus({ preventScroll: true });
  if (strip.window.open) drawWindow(strip);
}

// Of many jobs the last one that has begun is shown beside the first ones.
const current = rows => rows.slice(ROWS - 1).findLast(row => row.labels.length) ?? rows[ROWS - 1];

// One line of pictures a job, as many as there is room for, unless somebody asked for all of them.
function fit(strip) {
  for (const line of strip.body.querySelectorAll(".lab-strip-pictures")) {
    const columns = getComputedStyle(line).gridTemplateColumns.split(" ").length;
    [...line.children].forEach((cell, place) => { cell.hidden = !chosen.all && place >= columns; });
  }
}

// ---- a picture large, and its probabilities over time ----------------------------------------------------------------

function open(strip, key, picture) {
  strip.open = { key, picture };
  remember("open", `${key}:${picture}`);
  if (!strip.window.open) strip.window.showModal();
  drawWindow(strip);
}

function step(strip, by) {
  const { labels } = strip.data.rows.find(row => row.key === strip.open.key);
  open(strip, strip.open.key, (strip.open.picture + by + labels.length) % labels.length);
}

// The window's frame: what is pressed in it stays, so that the keyboard stays where it is.
function makeWindow(strip) {
  const window = make("dialog", { className: "lab-window lab-large", ariaLabel: "A picture and what the network says of it" });
  const button = (words, press) => { const it = make("button", { type: "button" }, words); it.onclick = press; return it; };
  window.onclose = () => remember("open", "");
  window.onclick = event => { if (event.target === window) window.close(); };
  strip.parts = { head: make("h2"), facts: make("div", { className: "lab-large-facts" }), chart: make("div"), numbers: make("div") };
  window.append(
    make("header", {}, strip.parts.head, button("Close", () => window.close())), strip.parts.facts, strip.parts.chart,
    make("details", {}, make("summary", {}, "The numbers"), strip.parts.numbers),
    make("nav", {}, button("‹ Previous picture", () => step(strip, -1)), button("Next picture ›", () => step(strip, 1))),
  );
  return window;
}

function drawWindow(strip) {
  const row = strip.data.rows.find(one => one.key === strip.open.key);
  if (!row || strip.open.picture >= row.labels.length) return strip.window.close();
  const one = told(row, strip.open.picture, strip.data.moment);
  const line = (words, found) => {
    const right = found && found[0][0] === one.label;
    const value = make("b", { className: found ? (right ? "lab-right" : "lab-wrong") : "" });
    value.textContent = found ? `${right ? "✓" : "✗"} ${row.classes[found[0][0]]}, ${percent(found[0][1])}` : "not asked yet";
    return make("p", {}, `${words}: `, value);
  };
  strip.parts.head.textContent = `${row.title}: it is ${row.classes[one.label]}`;
  strip.parts.facts.replaceChildren(image(row, one.picture, LARGE), make(
    "div", {}, line("Taken for now", one.now), line("When the job was learnt", one.learnt),
    make("p", {}, "Below: how probable the network held each answer, from its first look on."),
  ));
  strip.parts.chart.replaceChildren(overTime(row, one, Math.max(260, strip.parts.chart.clientWidth)));
  strip.parts.numbers.replaceChildren(table(row, one));
}

// The classes that are drawn: what it is, what it was and is taken for, and the most probable ever of the others.
function drawn(row, one) {
  const most = new Map();
  for (const look of row.looks) {
    for (const [label, value] of guesses(look, row)[one.picture] ?? []) most.set(label, Math.max(most.get(label) ?? 0, value));
  }
  const first = [one.label, one.now?.[0][0], one.learnt?.[0][0]].filter(label => label !== undefined);
  const others = [...most].sort((a, b) => b[1] - a[1]).map(([label]) => label);
  return [...new Set([...first, ...others])].slice(0, LINES);
}

const asked = (row, picture) => row.looks.filter(look => guesses(look, row)[picture]);

function svg(kind, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", kind);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

function overTime(row, one, width) {
  const [height, left, right, top, bottom] = [240, 46, width < 480 ? 84 : 128, 12, 34];
  const looks = asked(row, one.picture);
  const end = Math.max(1, ...looks.map(look => look.seen));
  const start = Math.min(...looks.map(look => look.seen), end);
  const x = seen => left + ((seen - start) / Math.max(1, end - start)) * (width - left - right);
  const y = value => top + (1 - value / 255) * (height - top - bottom);
  const chart = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Probabilities over time; the numbers are below." });
  for (const value of [0, 0.5, 1]) {
    const at = y(255 * value);
    chart.append(svg("line", { class: "lab-grid", x1: left, x2: width - right, y1: at, y2: at }));
    chart.append(svg("text", { x: left - 8, y: at + 4, "text-anchor": "end" }, `${100 * value} %`));
  }
  if (row.learnt !== null && row.looks[row.learnt]) {
    const at = x(row.looks[row.learnt].seen);
    chart.append(svg("line", { class: "lab-grid", x1: at, x2: at, y1: top, y2: height - bottom, "stroke-dasharray": "4 4" }));
    chart.append(svg("text", { x: at, y: height - bottom + 16, "text-anchor": "middle" }, "learnt"));
  }
  const below = (seen, anchor, words) => svg("text", { x: x(seen), y: height - 2, "text-anchor": anchor }, words);
  chart.append(below(start, "start", `${start.toLocaleString("en")} images of training`), below(end, "end", end.toLocaleString("en")));
  const names = [];
  drawn(row, one).forEach((label, place) => {
    const points = looks.map(look => [x(look.seen), y(share(guesses(look, row)[one.picture], label))]);
    const colour = label === one.label ? row.line : "#8A8F9C";
    const dash = label === one.label ? "none" : ["7 4", "2 3", "9 3 2 3", "4 2"][place % 4];
    chart.append(svg("polyline", {
      points: points.map(point => point.join(",")).join(" "), fill: "none", stroke: colour,
      "stroke-width": label === one.label ? 3 : 1.8, "stroke-dasharray": dash,
    }));
    names.push({ at: points.at(-1)?.[1] ?? y(0), words: row.classes[label], bold: label === one.label });
  });
  names.sort((a, b) => a.at - b.at).forEach((name, place) => {
    name.at = Math.max(name.at, (names[place - 1]?.at ?? -99) + 15);
    chart.append(svg("text", { x: width - right + 8, y: name.at + 4, "font-weight": name.bold ? 600 : 400 }, name.words));
  });
  return chart;
}

function table(row, one) {
  const labels = drawn(row, one);
  const head = make("tr", {}, make("th", {}, "images of training"), ...labels.map(label => make("th", {}, row.classes[label])));
  const lines = asked(row, one.picture).map(look => make(
    "tr", {}, make("td", {}, look.seen.toLocaleString("en")),
    ...labels.map(label => {
      const found = guesses(look, row)[one.picture].find(([number]) => number === label);
      return make("td", {}, found ? percent(found[1]) : "–"); // of many classes only the most probable are told
    }),
  ));
  return make("table", {}, make("thead", {}, head), make("tbody", {}, ...lines));
}

// ---- the component ---------------------------------------------------------------------------------------------------

function empty() {
  const frame = make("section", { className: "lab-strip" });
  const strip = { frame, cells: new Map() };
  strip.title = make("b");
  strip.body = make("div");
  strip.window = makeWindow(strip);
  strip.controls = Object.fromEntries(Object.values(CHOICES).map(name => [name, control(name)]));
  strip.controls.forgottenFirst.textContent = "Most forgotten first";
  strip.controls.forgottenOnly.textContent = "Only forgotten pictures";
  frame.append(make("div", { className: "lab-strip-head" }, strip.title, ...Object.values(strip.controls)), strip.body, strip.window);
  new ResizeObserver(() => fit(strip)).observe(frame);
  return strip;
}

// Who goes through the moments of a run takes its strip along (player.js).
addEventListener("lab-moment", ({ detail: { id, moment } }) => {
  const strip = strips.get(id);
  if (!strip?.data || strip.data.moment === null || String(strip.data.moment) === String(moment)) return;
  strip.data = { ...strip.data, moment };
  if (strip.frame.isConnected) draw(strip);
});

export default function ({ data, parentElement }) {
  const strip = strips.get(data.id) ?? empty();
  strips.delete(data.id);
  strips.set(data.id, strip); // the last is the one used last, whenever it was made
  if (strips.size > MOST_STRIPS) strips.delete(strips.keys().next().value);
  const isNew = strip.frame.parentNode !== parentElement;
  if (isNew) {
    if (strip.window.open) strip.window.close(); // taken away while it was open, it would not be modal any more
    parentElement.append(strip.frame);
    readChoices();
  }
  const version = JSON.stringify(data.version);
  if (isNew || strip.version !== version) {
    strip.data = data;
    strip.version = version;
    draw(strip);
    openFromAddress(strip);
  }
  return () => { if (strip.frame.parentNode === parentElement) strip.frame.remove(); };
}
