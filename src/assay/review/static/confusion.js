/** Given against suggested label as a small matrix; a cell filters the list. Arrows move in it, as in a table. */
import { bdi, byId, el } from "./dom.js";
import { session } from "./session.js";
import { state } from "./state.js";
import { count, digits } from "./words.js";

const SIDE = 10; // classes on a side; of more classes the most confused

/** As many digits as a cell holds; its title has them all. */
function brief(number, wide) {
  if (number < (wide ? 1000 : 100)) return String(number);
  return wide ? `${Math.round(number / 1000)}k` : "+";
}

export class Confusion {
  constructor(changed) {
    this.changed = changed;
    this.root = byId("confusion");
    this.root.addEventListener("keydown", (event) => this.#move(event));
  }

  draw({ counts }) {
    const classes = this.#classes(counts);
    const cells = new Map(counts.map(({ given, suggested, count }) => [JSON.stringify([given, suggested]), count]));
    const most = Math.max(1, ...counts.map((pair) => pair.count));
    const keyed = new Map([...digits(session.classes)].map(([digit, name]) => [name, digit]));
    const short = (name) => keyed.get(name) ?? String((session.classes ?? []).indexOf(name) + 1);
    const heads = classes.map((name) => el("th", { scope: "col", title: name }, el("span", { class: "sr" }, bdi(name)), el("span", { "aria-hidden": "true" }, short(name))));
    const rows = classes.map((given) =>
      el(
        "tr",
        {},
        el("th", { scope: "row", title: given }, short(given) === given ? null : el("span", { class: "key", "aria-hidden": "true" }, short(given)), el("span", { class: "name" }, bdi(given))),
        classes.map((suggested) => el("td", {}, given === suggested ? el("span", { class: "diagonal" }) : this.#cell(given, suggested, cells.get(JSON.stringify([given, suggested])) ?? 0, most, classes.length < 8))),
      ),
    );
    const table = el("table", {}, el("caption", { class: "sr" }, "Samples by given (rows) and suggested label (columns)"), el("thead", {}, el("tr", {}, el("td", {}, el("span", { class: "corner" }, "given ↓ → sugg.")), heads)), el("tbody", {}, rows));
    const left = counts.filter(({ given, suggested }) => !classes.includes(given) || !classes.includes(suggested)).length;
    this.root.replaceChildren(counts.length ? table : el("p", { class: "aside" }, "no pair differs here"), left ? el("p", { class: "aside" }, `${left} more pairs: filter by class`) : "");
    const first = this.root.querySelector("[aria-pressed=true]") ?? this.root.querySelector("button");
    if (first) first.tabIndex = 0;
  }

  #classes(counts) {
    const all = session.classes ?? [];
    if (all.length <= SIDE) return all;
    const weight = new Map();
    for (const { given, suggested, count } of counts) for (const name of [given, suggested]) weight.set(name, (weight.get(name) ?? 0) + count);
    const most = [...weight].sort((a, b) => b[1] - a[1]).slice(0, SIDE).map(([name]) => name);
    return all.filter((name) => most.includes(name));
  }

  #cell(given, suggested, number, most, wide) {
    if (!number) return null;
    const on = state.given === given && state.suggested === suggested;
    const button = el("button", { type: "button", tabindex: -1, "aria-pressed": on ? "true" : "false", title: `${given} → ${suggested}: ${count(number)}`, "aria-label": `given ${given}, suggested ${suggested}: ${number}` }, brief(number, wide));
    const step = Math.ceil(4 * Math.sqrt(number / most));
    button.dataset.step = step;
    button.addEventListener("click", () => {
      [state.given, state.suggested] = on ? [null, null] : [given, suggested];
      this.changed();
    });
    return button;
  }

  #move(event) {
    const steps = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
    const cell = event.target.closest("td");
    if (!steps || !cell) return;
    event.preventDefault();
    event.stopPropagation();
    const rows = [...this.root.querySelectorAll("tbody tr")];
    let [y, x] = [rows.indexOf(cell.parentElement), cell.cellIndex];
    for (;;) {
      [y, x] = [y + steps[0], x + steps[1]];
      const button = rows[y]?.cells[x];
      if (!button || x < 1) return;
      const found = button.querySelector("button");
      if (!found) continue;
      event.target.tabIndex = -1;
      found.tabIndex = 0;
      found.focus();
      return;
    }
  }
}
