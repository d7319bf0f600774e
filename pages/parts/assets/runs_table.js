// The table of runs. See runs_table.py for what arrives in `data`.

// What a person chose outlives a visit to another page, as it does on the server.
const shown = { rows: new Map(), picked: null, sorted: null };

function make(kind, attributes = {}, ...children) {
  const element = document.createElement(kind);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const UNITS = [["year", 31536000], ["month", 2592000], ["day", 86400], ["hour", 3600], ["minute", 60]];
const ago = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

function since(seconds) {
  const passed = Date.now() / 1000 - seconds;
  const [unit, length] = UNITS.find(([, long]) => passed >= long) ?? ["second", 1];
  return unit === "second" ? "just now" : ago.format(-Math.floor(passed / length), unit);
}

// A line is made once and then only written on, so that what has the keyboard's focus keeps it.
function makeRow(run, tell) {
  const box = make("input", { type: "checkbox", onchange: () => tell.choose(run, box.checked) });
  const link = make("a", { href: `watch?run=${encodeURIComponent(run)}`, target: "_self" }, make("b"), make("span"));
  const state = make("td", {}, make("span"), make("small"), make("div", { className: "lab-bar" }, make("div")));
  const row = make("tr", {}, make("td", {}, box), make("th", { scope: "row" }, link), state);
  row.onclick = event => {
    const own = event.target === box || event.target === row.firstChild;
    if (own || event.ctrlKey || event.metaKey || event.shiftKey || getSelection().toString()) return;
    event.preventDefault();
    tell.open(run);
  };
  return { row, box, link, state };
}

function write(made, line, columns, picked) {
  const { row, box, link, state } = made;
  box.checked = picked.has(line.run);
  row.classList.toggle("lab-picked", box.checked);
  const told = JSON.stringify(line);
  if (made.told !== told) {
    made.told = told;
    box.ariaLabel = `Choose ${line.method} on ${line.jobs}`;
    link.firstChild.textContent = line.method;
    link.lastChild.textContent = line.jobs;
    state.firstChild.className = `lab-chip ${line.face}`;
    state.firstChild.textContent = line.state;
    state.children[1].textContent = line.note;
    state.children[2].hidden = line.share === null;
    state.children[2].firstChild.style.width = `${100 * (line.share ?? 0)}%`;
    for (const old of [...row.children].slice(3)) old.remove();
    for (const { name } of columns) row.append(make("td", { "data-title": name }, line.cells[name] ?? ""));
  }
  row.lastChild.textContent = since(line.values.started);
}

function order(lines, sorted) {
  if (!sorted) return lines;
  const value = line => line.values[sorted.name] ?? line.cells[sorted.name] ?? line[sorted.name] ?? "";
  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : `${a}`.localeCompare(`${b}`));
  return [...lines].sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    if ((x === "") !== (y === "")) return x === "" ? 1 : -1; // what is not known stands last, whichever way
    return (sorted.down ? -1 : 1) * compare(x, y);
  });
}

function head(frame, data, redraw, tell) {
  const all = make("input", { type: "checkbox", ariaLabel: "Choose all runs" });
  all.onchange = () => tell.chooseAll(all.checked);
  const cells = [{ name: "run", by: "method" }, { name: "state" }, ...data.columns].map(({ name, by = name, help = "" }) => {
    const button = make("button", { type: "button", title: help }, name);
    const cell = make("th", { scope: "col" }, button);
    button.onclick = () => {
      const again = shown.sorted?.name === by;
      shown.sorted = again && shown.sorted.down ? null : { name: by, down: again };
      redraw();
    };
    cell.by = by;
    return cell;
  });
  frame.all = all;
  frame.heads = cells;
  return make("tr", {}, make("td", {}, all), ...cells);
}

export default function ({ data, parentElement, setStateValue, setTriggerValue }) {
  shown.picked ??= new Set(data.picked);
  const here = new Set(data.lines.map(line => line.run));
  const before = shown.picked.size;
  for (const run of shown.picked) if (!here.has(run)) shown.picked.delete(run);
  if (shown.picked.size !== before) setStateValue("picked", [...shown.picked]); // what nobody sees is not chosen
  for (const run of shown.rows.keys()) if (!here.has(run)) shown.rows.delete(run);
  const send = () => { setStateValue("picked", [...shown.picked]); redraw(); };
  const tell = {
    open: run => setTriggerValue("opened", run),
    choose: (run, on) => { shown.picked[on ? "add" : "delete"](run); send(); },
    chooseAll: on => { shown.picked = new Set(on ? here : []); send(); },
  };
  shown.tell = tell;
  // Lines ask for the latest mount's way back, as they outlive one.
  const latest = { open: run => shown.tell.open(run), choose: (run, on) => shown.tell.choose(run, on) };

  let frame = parentElement.querySelector(".lab-runs");
  const columns = JSON.stringify(data.columns);
  if (frame?.columns !== columns) {
    frame?.remove();
    frame = make("div", { className: "lab-runs" });
    frame.columns = columns;
    frame.body = make("tbody");
    frame.append(make("table", {}, make("thead", {}, head(frame, data, () => shown.redraw(), { chooseAll: on => shown.tell.chooseAll(on) })), frame.body));
    parentElement.append(frame);
    shown.rows.clear();
  }
  function redraw() {
    const rows = order(data.lines, shown.sorted).map(line => {
      if (!shown.rows.has(line.run)) shown.rows.set(line.run, makeRow(line.run, latest));
      write(shown.rows.get(line.run), line, data.columns, shown.picked);
      return shown.rows.get(line.run).row;
    });
    if (rows.length !== frame.body.children.length || rows.some((row, place) => row !== frame.body.children[place])) {
      frame.body.replaceChildren(...rows);
    }
    frame.all.checked = here.size > 0 && shown.picked.size === here.size;
    frame.all.indeterminate = shown.picked.size > 0 && shown.picked.size < here.size;
    for (const cell of frame.heads) {
      const sorted = shown.sorted?.name === cell.by;
      cell.ariaSort = sorted ? (shown.sorted.down ? "descending" : "ascending") : null;
    }
  }
  shown.redraw = redraw;
  redraw();
}
