/** Two-dimensional cuts through a sample: two columns swept, the others where the sliders stand. */
import { address, get } from "./api.js";
import { dark } from "./chart.js";
import { bdi, byId, el, settled } from "./dom.js";
import { figure } from "./words.js";

const STEPS = 200; // of a slider between two numbers

/** A column's places: its values where they are few, else evenly from the lowest to the highest. */
const places = ({ values, range }) => values ?? Array.from({ length: STEPS + 1 }, (_, i) => range[0] + ((range[1] - range[0]) * i) / STEPS);

/** The sample that moves the model most. */
async function strongest() {
  const { items } = await get("/api/queue", { queue: "all", limit: 1 });
  return items.length ? String(items[0].row) : "";
}

const nearest = (list, value) => list.reduce((best, one, i) => (Math.abs(one - value) < Math.abs(list[best] - value) ? i : best), 0);

export class Cuts {
  constructor() {
    this.row = new URLSearchParams(location.search).get("row") ?? "";
    this.redraw = settled(() => this.#draw(), 150);
    this.image = byId("cut");
    this.image.addEventListener("load", () => this.#loaded(true));
    this.image.addEventListener("error", () => this.#loaded(false));
    byId("row-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.row = byId("row").value;
      history.replaceState(null, "", address("/regions", { row: this.row }));
      this.start();
    });
    for (const id of ["x", "y"]) byId(id).addEventListener("change", () => this.#axes());
    document.addEventListener("theme", () => this.columns && this.redraw());
  }

  async start() {
    try {
      if (this.row === "") this.row = await strongest();
      byId("row").value = this.row;
      const answer = await get("/api/cut", { row: this.row });
      Object.assign(this, { columns: answer.columns, x: answer.x, y: answer.y });
    } catch (error) {
      byId("cut-words").textContent = error.message;
      return;
    }
    this.at = Object.fromEntries(this.columns.map((column) => [column.name, column.value]));
    for (const id of ["x", "y"]) byId(id).replaceChildren(...this.columns.map(({ name }) => el("option", { value: name }, name)));
    this.#sliders();
    this.redraw();
  }

  #axes() {
    const [x, y] = [byId("x").value, byId("y").value];
    if (x === y) [this.x, this.y] = x === this.x ? [this.y, this.x] : [this.y, this.x];
    else [this.x, this.y] = [x, y];
    this.#sliders();
    this.redraw();
  }

  #sliders() {
    [byId("x").value, byId("y").value] = [this.x, this.y];
    byId("sliders").replaceChildren(...this.columns.filter(({ name }) => name !== this.x && name !== this.y).map((column) => this.#slider(column)));
  }

  #slider(column) {
    const list = places(column);
    const shown = el("output", { class: "number" }, figure(this.at[column.name]));
    const input = el("input", { type: "range", min: 0, max: list.length - 1, step: 1, value: nearest(list, this.at[column.name]) });
    input.setAttribute("aria-valuetext", figure(this.at[column.name]));
    input.addEventListener("input", () => {
      this.at[column.name] = list[Number(input.value)];
      shown.textContent = figure(this.at[column.name]);
      input.setAttribute("aria-valuetext", shown.textContent);
      this.redraw();
    });
    const back = el("button", { type: "button", class: "quiet", title: "back to the sample's own value", "aria-label": `${column.name} back to the sample's own value` }, "⟲");
    back.addEventListener("click", () => {
      this.at[column.name] = column.value;
      input.value = nearest(list, column.value);
      shown.textContent = figure(column.value);
      this.redraw();
    });
    return el("li", {}, el("label", {}, bdi(column.name), input), shown, back);
  }

  #draw() {
    const fixed = Object.entries(this.at).filter(([name]) => name !== this.x && name !== this.y);
    const named = Object.fromEntries(fixed.map(([name, value]) => [`at.${name}`, value]));
    byId("cut-words").textContent = "being drawn …";
    this.image.alt = `Cut through sample ${this.row}: ${this.x} against ${this.y}`;
    this.image.src = address("/api/cut.svg", { ...named, row: this.row, x: this.x, y: this.y, dark: dark() ? 1 : null });
  }

  #loaded(drawn) {
    this.image.hidden = !drawn;
    byId("cut-words").textContent = drawn ? "" : "Nothing could be drawn here.";
    this.image.dataset.drawn = drawn ? this.image.src : "";
  }
}
