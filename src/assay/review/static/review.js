/** The review page: what the parts say to each other, and the keys. */
import { get, post } from "./api.js";
import { askClass, askRank, askUser } from "./ask.js";
import { Confusion } from "./confusion.js";
import { Decider } from "./decide.js";
import { byId, notice, settled } from "./dom.js";
import { Filters } from "./filters.js";
import { Grid } from "./grid.js";
import { actionOf, busy, help, keycap, keys } from "./keys.js";
import { Listing } from "./listing.js";
import { Panel, zoom } from "./panel.js";
import { drawProgress } from "./progress.js";
import { Recent } from "./recent.js";
import { session } from "./session.js";
import { clearFilters, remember, state } from "./state.js";
import { Why } from "./why.js";
import { ACTIONS, count, digits } from "./words.js";

const grid = new Grid({ need: (direction) => listing?.more(direction), chosen: (item) => chosen(item), opened: (item) => zoom(item) });
const listing = new Listing(grid);
const decider = new Decider({ grid, changed, settled: settled(summary, 300), go, advance });
const panel = new Panel({ relabel: (label) => decide("relabel", label), why: new Why(go) });
const recent = new Recent(go);
const filter = new Filters(() => begin());
const confusion = new Confusion(() => (filter.draw(), begin()));
const classOf = digits(session.classes);

function chosen(item) {
  state.row = item?.row ?? null;
  remember();
  panel.show(item);
  const many = grid.selection.length;
  byId("range").hidden = many < 2;
  byId("range").textContent = `${count(many)} chosen: a key decides all, Esc none`;
  byId("place").textContent = item ? `rank ${count(item.rank)}` : "";
}

function changed(item) {
  grid.update(item.row);
  panel.update(item);
}

/** A sample is on its way: the next open one that was read. */
function advance() {
  const from = Math.max(grid.index, grid.anchor);
  const open = (item) => !item.pending && (!item.decision || item.decision.action === "requeue" || item.conflict);
  const offset = grid.items.slice(from + 1).findIndex(open);
  grid.select(offset < 0 ? from : from + 1 + offset);
}

/** Back to a sample: in the list, or by a list that begins with it. */
async function go(row) {
  if (grid.place(row) < 0) {
    if (state.status === "open") state.status = null;
    await begin({ row });
  }
  if (grid.place(row) < 0) {
    clearFilters();
    Object.assign(state, { queue: "all", status: null });
    await begin({ row });
  }
  grid.select(grid.place(row));
  grid.root.focus({ preventScroll: true });
}

async function begin(place = {}) {
  filter.draw(totals);
  await listing.begin(place);
  const index = place.row === undefined || place.row === null ? 0 : grid.place(place.row);
  grid.select(Math.max(0, index));
  if (!grid.items.length) chosen(null);
  summary();
}

let totals = {};

/** What the server counts: progress, pairs, the last ten. */
async function summary() {
  recent.read();
  const asked = state.queue;
  const pairs = session.classes ? get("/api/confusion", { queue: asked }) : { counts: [] };
  const [far, pair] = await Promise.allSettled([get("/api/progress", { queue: asked }), pairs]);
  if (asked !== state.queue) return;
  if (pair.status === "fulfilled" && session.classes) confusion.draw(pair.value);
  if (far.status !== "fulfilled") return; // the next decision asks again
  drawProgress(far.value);
  totals = far.value.queues ?? totals;
  filter.draw(totals);
}

async function decide(action, label = null) {
  if (!session.user && !(await name())) return;
  await decider.decide(action, label);
}

/** Who decides: asked once, kept by the server in a cookie. */
async function name() {
  const given = await askUser();
  if (!given) return false;
  try {
    session.user = (await post("/api/user", { name: given })).user;
  } catch (error) {
    notice(error.message, { tone: "bad" });
    return false;
  }
  byId("user").textContent = session.user;
  recent.read();
  return true;
}

const DOES = {
  skip: () => grid.select(grid.index + 1),
  undo: () => decider.undo(),
  help: () => help(caps),
  zoom: () => zoom(grid.current),
  note: () => byId("note").focus(),
  find: async () => {
    const label = await askClass();
    if (label !== null) decide("relabel", label);
  },
  rank: async () => {
    const rank = await askRank();
    if (rank !== null) begin({ rank });
  },
};
for (const action of Object.keys(ACTIONS)) DOES[action] ??= () => decide(action);

const page = () => grid.columns * Math.max(1, Math.floor(grid.root.clientHeight / grid.height) - 1);
const MOVES = {
  ArrowRight: () => 1,
  ArrowLeft: () => -1,
  ArrowDown: () => grid.columns,
  ArrowUp: () => -grid.columns,
  PageDown: page,
  PageUp: () => -page(),
  Home: () => -grid.index,
  End: () => grid.items.length - 1 - grid.index,
};

function pressed(event) {
  if (busy(event) || event.target.closest?.("[data-own-keys]")) return;
  if (event.target.matches?.("[data-own-scroll]") && event.key in MOVES) return;
  if (event.key in MOVES && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    const next = grid.index + MOVES[event.key]();
    if (next >= 0 && next < grid.items.length) grid.select(next, { extend: event.shiftKey });
  } else if (event.key === "Escape") {
    grid.select(grid.index);
  } else if (classOf.has(event.key) && actionOf(event) === null && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    decide("relabel", classOf.get(event.key));
  } else if (actionOf(event) !== null) {
    event.preventDefault();
    DOES[actionOf(event)]();
  }
}

/** The buttons say which key does the same. */
function caps() {
  for (const button of document.querySelectorAll("[data-action-key]")) {
    const action = button.dataset.actionKey;
    button.querySelector("kbd")?.replaceWith(keycap(action));
    button.setAttribute("aria-keyshortcuts", keys[action]);
  }
}

document.addEventListener("keydown", pressed);
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-action-key]");
  if (button) DOES[button.dataset.actionKey]();
  if (event.target.closest("[data-close]")) event.target.closest("dialog").close();
});
byId("note").addEventListener("keydown", (event) => {
  if (event.key === "Enter" || event.key === "Escape") grid.root.focus();
});
byId("user").addEventListener("click", name);
byId("zoomed").addEventListener("click", () => byId("zoom").close());
byId("rail-toggle").addEventListener("click", (event) => {
  const open = document.body.classList.toggle("rail-open");
  event.currentTarget.setAttribute("aria-expanded", open ? "true" : "false");
});

caps();
decider.restore();
await begin({ row: state.row, rank: state.rank });
grid.root.focus({ preventScroll: true });
if (!session.user) await name();
