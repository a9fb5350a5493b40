/** Keys: which one does what, and changing that. */
import { post } from "./api.js";
import { byId, el, notice } from "./dom.js";
import { session } from "./session.js";
import { ACTIONS } from "./words.js";

/** action → [key, what it does]; the server may have other keys of this user's. */
const FIRST = {
  keep: ["k", "keep: the given label is right"],
  relabel: ["r", "relabel as suggested"],
  find: ["/", "relabel: find a class by its name"],
  drop: ["d", "drop: leave the sample out"],
  collect: ["m", "collect more samples like this"],
  unsure: ["u", "unsure: somebody else shall look"],
  skip: ["s", "skip: stays open"],
  undo: ["z", "undo the last decision"],
  requeue: ["q", "requeue: open again"],
  note: ["n", "write a note with the next decision"],
  rank: ["g", "go to a rank"],
  zoom: ["e", "enlarge the picture"],
  help: ["?", "this list"],
};
const FIXED = [
  ["1 … 9, 0", "relabel as that class (or as its own digit)"],
  ["← → ↑ ↓", "move"],
  ["Shift with arrows, or a click", "choose a range; one key decides it"],
  ["Home, End", "first and last sample read so far"],
  ["Esc", "give up the range, close what is open"],
];

const own = session.keys ?? {};
export const keys = Object.fromEntries(Object.entries(FIRST).map(([action, [key]]) => [action, own[action] ?? key]));

const shown = (key) => (key.length === 1 ? key.toUpperCase() : key);
export const keycap = (action) => el("kbd", {}, shown(keys[action]));

/** The action of a pressed key, or null. */
export function actionOf(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return null;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  return Object.keys(keys).find((action) => keys[action] === key) ?? null;
}

/** True while the key belongs to a field or an open dialog. */
export function busy(event) {
  if (document.querySelector("dialog[open]")) return true;
  const at = event.target;
  if (at.closest?.("input:not([type=range]):not([type=checkbox]), textarea, select, [contenteditable]")) return true;
  return (event.key === "Enter" || event.key === " ") && at.closest?.("button, a, summary") !== null;
}

function change(action, button, changed) {
  button.textContent = "press a key";
  const heard = async (event) => {
    event.preventDefault();
    event.stopPropagation();
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (["Shift", "Control", "Alt", "Meta"].includes(key)) return;
    button.removeEventListener("keydown", heard);
    const other = Object.keys(keys).find((name) => keys[name] === key && name !== action);
    const taken = other ?? (/^(\d|Arrow.*|Escape|Enter|Tab|Home|End| )$/.test(key) ? "another use" : null);
    if (taken && key !== "Escape") notice(`${shown(key)} is taken: ${FIRST[taken]?.[1] ?? "it moves, chooses a class or closes"}.`, { tone: "bad" });
    if (!taken) {
      keys[action] = key;
      try {
        await post("/api/keys", { keys });
      } catch (error) {
        notice(`${error.message} The key holds until the page is left.`, { tone: "bad" });
      }
    }
    button.textContent = shown(keys[action]);
    changed();
  };
  button.addEventListener("keydown", heard);
}

/** The list behind `?`, where every key can be changed. */
export function help(changed) {
  const dialog = byId("help");
  const rows = Object.entries(FIRST).map(([action, [, does]]) => {
    const button = el("button", { type: "button", class: "key", "aria-label": `Change the key of “${does}”, now ${shown(keys[action])}` }, shown(keys[action]));
    button.addEventListener("click", () => change(action, button, changed));
    return el("tr", {}, el("td", {}, button), el("td", { class: `does ${action}` }, ACTIONS[action] ? `${ACTIONS[action].glyph} ${does}` : does));
  });
  byId("help-keys").replaceChildren(...rows);
  byId("help-fixed").replaceChildren(...FIXED.map(([key, does]) => el("tr", {}, el("td", {}, el("kbd", {}, key)), el("td", {}, does))));
  dialog.showModal();
}
