/** Queues and filters: what of the audit is in the list. */
import { byId, el, glyph, settled } from "./dom.js";
import { session } from "./session.js";
import { clearFilters, filtered, state } from "./state.js";
import { KINDS, QUEUES, count } from "./words.js";

const TITLES = { all: "everything", conflicts: "experts differ", unsure: "unsure", ...Object.fromEntries(Object.entries(KINDS).map(([kind, { name }]) => [kind, name])) };
export const title = (name) => session.queues.find((queue) => queue.name === name)?.title ?? TITLES[name] ?? name;

export class Filters {
  constructor(changed) {
    this.changed = changed;
    this.queues = byId("queues");
    for (const [id, name] of [["f-given", "given"], ["f-suggested", "suggested"]]) this.#classes(byId(id), name);
    this.#choice(byId("f-status"), "status");
    for (const [id, name] of [["f-low", "low"], ["f-high", "high"]]) this.#number(byId(id), name);
    byId("f-clear").addEventListener("click", () => (clearFilters(), this.draw(), this.changed()));
    this.draw();
  }

  draw(totals = {}) {
    this.queues.replaceChildren(...session.queues.map((queue) => this.#queue(queue, totals[queue.name] ?? queue.total)));
    for (const [id, name] of [["f-given", "given"], ["f-suggested", "suggested"], ["f-status", "status"], ["f-low", "low"], ["f-high", "high"]]) byId(id).value = state[name] ?? "";
    byId("f-clear").hidden = !filtered();
  }

  choose(name) {
    state.queue = name;
    if (name === "conflicts" || name === "unsure") state.status = null;
    else if (state.status === null) state.status = "open";
    this.draw();
    this.changed();
  }

  #queue(queue, total) {
    const now = queue.name === state.queue;
    const button = el(
      "button",
      { type: "button", class: `queue ${queue.name}`, "aria-pressed": now ? "true" : "false", on: { click: () => this.choose(queue.name) } },
      glyph(QUEUES[queue.name] ?? "■"),
      el("span", {}, queue.title ?? title(queue.name)),
      el("span", { class: "number" }, count(total)),
    );
    return el("li", {}, button);
  }

  #classes(select, name) {
    if (!session.classes) {
      select.closest("label").hidden = true;
      return;
    }
    select.append(...session.classes.map((label) => el("option", { value: label }, label)));
    this.#choice(select, name);
  }

  #choice(select, name) {
    select.addEventListener("change", () => {
      state[name] = select.value || null;
      this.draw();
      this.changed();
    });
  }

  #number(input, name) {
    const change = settled(() => {
      if (input.value !== "" && !input.checkValidity()) return;
      state[name] = input.value || null;
      byId("f-clear").hidden = !filtered();
      this.changed();
    }, 300);
    input.addEventListener("input", change);
  }
}
