/** Where the expert is: queue, filters and sample, kept in the page's address so that a reload finds them. */
import { address } from "./api.js";
import { settled } from "./dom.js";
import { session } from "./session.js";

const FILTERS = ["given", "suggested", "low", "high"];
const PLACE = `assay-place ${session.audit}`;
const given = new URLSearchParams(location.search || stored());
const names = session.queues.map((queue) => queue.name);

/** Where the expert was when the page was last open: a server that was started anew opens the bare address. */
function stored() {
  try {
    return localStorage.getItem(PLACE) ?? "";
  } catch {
    return "";
  }
}

export const state = {
  queue: names.includes(given.get("queue")) ? given.get("queue") : names.includes("mislabeled") ? "mislabeled" : names[0],
  status: given.get("status") ?? (given.has("row") || given.has("queue") ? null : "open"),
  row: /^\d+$/.test(given.get("row") ?? "") ? Number(given.get("row")) : null,
  rank: /^\d+$/.test(given.get("rank") ?? "") ? Number(given.get("rank")) : null,
  ...Object.fromEntries(FILTERS.map((name) => [name, given.get(name) || null])),
};

/** What /api/queue is asked with. */
export function filters() {
  return { queue: state.queue, status: state.status, ...Object.fromEntries(FILTERS.map((name) => [name, state[name]])) };
}

export const filtered = () => FILTERS.some((name) => state[name] !== null);

export function clearFilters() {
  for (const name of FILTERS) state[name] = null;
}

/** This page with some of its state changed. */
export const here = (changes = {}) => address("/", { ...filters(), row: state.row, ...changes });

function write() {
  const address = here();
  history.replaceState(null, "", address);
  try {
    localStorage.setItem(PLACE, address.slice(1));
  } catch {
    // the address alone has it
  }
}

/** Browsers slow down pages that write their address on every key. */
export const remember = settled(write, 200);

addEventListener("pagehide", write);
