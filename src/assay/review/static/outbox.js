/** Decisions on their way: sent one after the other, in the order they were made, and kept until the server has them.

What was not acknowledged is also kept in the tab's storage: it survives a reload, and a server that was started anew gets it.
A post that the server refuses comes back (`refused`); where no server answers it is sent again until one does (`stalled`).
*/
import { post } from "./api.js";
import { session } from "./session.js";

const PLACE = `assay-outbox ${session.audit}`; // of these data: another audit may come to stand at this address
const WAITS = [200, 400, 800, 1600, 3000];

export class Outbox {
  #entries = [];
  #running = false;

  constructor({ confirmed, refused, stalled, moved }) {
    Object.assign(this, { confirmed, refused, stalled, moved });
    addEventListener("beforeunload", (event) => {
      if (this.#entries.length) event.preventDefault();
    });
  }

  get length() {
    return this.#entries.length;
  }

  /** Everything not acknowledged before the page was left. */
  restore() {
    try {
      this.#entries.push(...JSON.parse(sessionStorage.getItem(PLACE) ?? "[]"));
    } catch {
      this.#store();
    }
    this.#run();
    return [...this.#entries];
  }

  /** `entry` is {path, body, …}; a key in the body tells the server that a second post is the same one. */
  add(entry) {
    entry.body.key = crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`;
    this.#entries.push(entry);
    this.#store();
    this.#run();
    return entry;
  }

  async #run() {
    if (this.#running) return;
    this.#running = true;
    for (let tries = 0; this.#entries.length; ) {
      const entry = this.#entries[0];
      try {
        const answer = await post(entry.path, entry.body);
        this.#done();
        tries = 0;
        this.confirmed(entry, answer);
      } catch (error) {
        if (!(await this.#again(entry, error, tries++))) tries = 0;
      }
    }
    this.#running = false;
  }

  /** True where the same post is worth another try: no server, a server in trouble, or one that does not know us yet. */
  async #again(entry, error, tries) {
    const waits = error.status === 0 || error.status >= 500 || [401, 403, 429].includes(error.status);
    if (!waits) {
      this.#done();
      this.refused(entry, error);
      return false;
    }
    this.stalled(error, this.#entries.length);
    await new Promise((go) => setTimeout(go, WAITS[Math.min(tries, WAITS.length - 1)]));
    return true;
  }

  #done() {
    this.#entries.shift();
    this.#store();
    this.moved(this.#entries.length);
  }

  #store() {
    try {
      sessionStorage.setItem(PLACE, JSON.stringify(this.#entries));
    } catch {
      // no storage: they are still kept in memory
    }
  }
}
