// Goes through the moments of charts that are on the page already, from a flip book that was sent once. See player.py for
// what arrives in `data`; `chart` is the module that draws charts (live_plot.js).

const SECOND = 8; // moments a second
const REST = 250; // ms that the slider rests before the page is told
const players = new Map(); // by id; bounded, so that a long session does not gather those it no longer shows
const MOST_PLAYERS = 4;
const still = matchMedia("(prefers-reduced-motion: reduce)"); // then nothing plays by itself: a press is a step

function make(kind, attributes = {}) {
  return Object.assign(document.createElement(kind), attributes);
}

function empty() {
  const player = { at: 0, playing: false, told: null };
  player.frame = make("div", { className: "lab-player" });
  player.button = make("button", { type: "button" });
  player.range = make("input", { type: "range", min: 0 });
  player.range.setAttribute("aria-label", "Moment");
  player.words = make("span");
  player.frame.append(player.button, player.range, player.words);
  player.button.addEventListener("click", () => (still.matches ? step(player) : play(player, !player.playing)));
  player.range.addEventListener("input", () => {
    clearInterval(player.clock);
    Object.assign(player, { playing: false, at: Number(player.range.value) });
    draw(player);
    clearTimeout(player.resting);
    player.resting = setTimeout(() => tell(player), REST);
  });
  return player;
}

// Draw the moment that is shown.
function draw(player) {
  const { moments } = player.book;
  for (const control of [player.button, player.range]) control.hidden = moments.length < 2; // one moment is told alone
  player.range.max = moments.length - 1;
  player.range.value = player.at;
  player.range.setAttribute("aria-valuetext", moments[player.at].words);
  player.words.textContent = moments[player.at].words;
  player.button.textContent = still.matches ? "Step" : player.playing ? "Pause" : "Play";
  for (const { id, frames } of player.book.charts) chart.then(it => it.flip(id, frames[player.at]));
  // Whatever else has all moments goes along, as the strip does; what waits for the page stands back meanwhile.
  dispatchEvent(new CustomEvent("lab-moment", { detail: { id: player.id, moment: moments[player.at].name.split(".").map(Number) } }));
  document.body.classList.toggle("lab-playing", player.playing);
}

function play(player, playing) {
  clearInterval(player.clock);
  player.playing = playing;
  if (playing && player.at >= player.book.moments.length - 1) player.at = 0; // from the start where the last is shown
  if (playing) player.clock = setInterval(() => next(player), 1000 / SECOND);
  draw(player);
  if (!playing) tell(player);
}

function next(player) {
  if (!player.frame.isConnected) return leave(player);
  if (player.at >= player.book.moments.length - 1) return play(player, false);
  player.at += 1;
  draw(player);
}

// Another page is shown, or another run.
function leave(player) {
  clearInterval(player.clock);
  if (player.playing) document.body.classList.remove("lab-playing");
  player.playing = false;
}

function step(player) {
  player.at = (player.at + 1) % player.book.moments.length;
  draw(player);
  tell(player);
}

// Let the page follow, which is not asked while it plays: what it shows below the charts is of the moment it knows.
function tell(player) {
  const { name } = player.book.moments[player.at];
  if (name === player.told) return;
  player.told = name;
  player.send?.(name);
}

export default function ({ data, parentElement, setTriggerValue }) {
  const player = players.get(data.id) ?? empty();
  players.delete(data.id);
  players.set(data.id, player); // the last is the one used last, whenever it was made
  if (players.size > MOST_PLAYERS) {
    const [unused, { clock }] = players.entries().next().value;
    clearInterval(clock);
    players.delete(unused);
  }
  player.id = data.id;
  player.send = name => setTriggerValue("moment", name);
  if (player.frame.parentNode !== parentElement) parentElement.append(player.frame);
  const shown = player.book?.moments[player.at].name;
  if (player.text !== data.book) {
    player.text = data.book;
    player.book = JSON.parse(data.book);
  }
  const { moments } = player.book;
  const place = name => moments.findIndex(moment => moment.name === name);
  // The page says which moment it shows. Where that is news, as of an address or of a run that has got further, the
  // player follows; what it has told itself is no news, and while it plays it goes on.
  const follows = shown === undefined || (!player.playing && data.at !== player.asked && data.at !== shown);
  const at = place(follows ? data.at : shown);
  player.asked = data.at;
  player.at = at >= 0 ? at : moments.length - 1;
  if (follows) player.told = moments[player.at].name;
  draw(player);
  return () => { if (player.frame.parentNode === parentElement) player.frame.remove(); };
}
