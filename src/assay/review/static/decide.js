/** Decisions: shown at once as on their way, confirmed by the server, brought back where it refuses. */
import { sure } from "./ask.js";
import { byId, notice, say } from "./dom.js";
import { Outbox } from "./outbox.js";
import { session } from "./session.js";
import { ACTIONS, count, inWords } from "./words.js";

let made = 0;

export class Decider {
  /** `grid`: the list; `changed(row)`: a sample stands otherwise now; `settled()`: the server has them; `go(row)`. */
  constructor({ grid, changed, settled, go, advance }) {
    Object.assign(this, { grid, changed, settled, go, advance });
    this.outbox = new Outbox({
      confirmed: (entry, answer) => this.#confirmed(entry, answer),
      refused: (entry, error) => this.#refused(entry, error),
      stalled: (error, waiting) => this.#stalled(error, waiting),
      moved: (waiting) => this.#moved(waiting),
    });
  }

  /** What the last visit could not send any more. */
  restore() {
    const waiting = this.outbox.restore();
    if (waiting.length) notice(`${count(waiting.length)} decisions of before are being sent.`);
  }

  /** The chosen samples, after a question where they are many. */
  async decide(action, label = null) {
    const items = [...this.grid.selection];
    if (!items.length) return;
    if (items.length > 1 && !(await this.#sure(items, action, label))) return;
    const without = action === "relabel" && label === null ? items.filter((item) => item.suggested === item.given || item.suggested === null) : [];
    if (without.length === items.length) {
      notice("The suggested label is the given one: press a digit, or / for another class.", { name: "same" });
      return;
    }
    this.#submit(items.filter((item) => !without.includes(item)), action, label);
  }

  undo() {
    this.outbox.add({ path: "/api/undo", body: {} });
    this.#moved(this.outbox.length);
  }

  #sure(items, action, label) {
    const decided = items.filter((item) => item.decision || item.pending).length;
    const words = label === null ? (action === "relabel" ? "relabel, each as suggested" : (ACTIONS[action]?.name ?? action)) : `relabel as ${label}`;
    const same = action === "relabel" && label === null ? items.filter((item) => item.suggested === item.given).length : 0;
    const lines = [`ranks ${count(items[0].rank)} to ${count(items[items.length - 1].rank)}`, `${count(items.length - decided)} open, ${count(decided)} decided before`, "one undo takes all of them back"];
    if (same) lines.push(`${count(same)} of them have no other suggestion and are left as they are`);
    return sure(`${count(items.length)} samples: ${words}?`, lines);
  }

  #submit(items, action, label) {
    const note = byId("note").value.trim() || null;
    byId("note").value = "";
    const id = ++made;
    const seen = Object.fromEntries(items.map((item) => [item.row, item.seq ?? null]));
    for (const item of items) {
      item.failed = null;
      item.pending = { action, label: action === "relabel" ? (label ?? item.suggested) : null, id, since: performance.now() };
    }
    this.outbox.add({
      path: "/api/decide",
      id,
      body: { rows: items.map((item) => item.row), action, label, note, seen, resolves: items.some((item) => item.conflict) },
    });
    this.#moved(this.outbox.length);
    for (const item of items) this.changed(item);
    say(items.length > 1 ? `${items.length} samples: ${inWords(items[0].pending)}` : inWords(items[0].pending));
    this.advance();
  }

  #confirmed(entry, answer) {
    if (entry.path === "/api/undo") return this.#undone(answer);
    for (const { row, decision, conflict, seq } of answer.items) {
      const item = this.grid.find(row);
      if (!item) continue;
      if (item.pending?.id === entry.id) {
        item.saved = performance.now() - item.pending.since;
        item.pending = null;
      }
      Object.assign(item, { decision, conflict, seq });
      this.changed(item);
    }
    const differ = answer.items.filter((item) => item.conflict).length;
    if (differ && !entry.body.resolves) notice(`${differ === 1 ? "Another expert decided" : `Other experts decided ${count(differ)} of them`} otherwise: in the queue “experts differ”.`, { name: "differ" });
    this.settled();
  }

  #undone(answer) {
    if (!answer.undone) {
      notice("Nothing of yours is left to undo.", { name: "nothing" });
      return;
    }
    for (const { row, decision, conflict, seq } of answer.items) {
      const item = this.grid.find(row);
      if (!item) continue;
      Object.assign(item, { decision, conflict, seq, pending: null, failed: null });
      this.changed(item);
    }
    say(`undone: ${inWords(answer.undone)}`);
    notice(`Undone: ${inWords(answer.undone)}${answer.rows.length > 1 ? `, ${count(answer.rows.length)} samples` : ""}.`, { name: "undone" });
    this.settled();
    if (answer.rows.length) this.go(answer.rows[0]);
  }

  #refused(entry, error) {
    const rows = entry.body.rows ?? [];
    for (const row of rows) {
      const item = this.grid.find(row);
      if (!item) continue;
      if (item.pending?.id === entry.id) item.pending = null;
      item.failed = error.message;
      this.changed(item);
    }
    const what = rows.length ? `Not saved (${ACTIONS[entry.body.action]?.name ?? entry.body.action}): ${error.message}` : `Not undone: ${error.message}`;
    const action = rows.length ? { text: "go back to it", run: () => this.go(rows[0]) } : null;
    notice(what, { action, tone: "bad", stays: true, name: `refused ${entry.id}` });
    say(what);
  }

  #stalled(error, waiting) {
    const unknown = [401, 403].includes(error.status);
    const words = unknown ? "The server was started anew: open the address that it printed, in this tab." : error.message;
    const line = byId("stalled");
    line.hidden = false;
    line.textContent = `${words} ${count(waiting)} ${waiting === 1 ? "decision waits" : "decisions wait"} here and will be sent.`;
  }

  #moved(waiting) {
    byId("waiting").textContent = waiting ? `${count(waiting)} being saved` : session.user ? "all saved" : "";
    document.body.dataset.waiting = waiting;
    if (!waiting) byId("stalled").hidden = true;
  }
}
