/** The export page: choose a format, name the target, and read what was written. */
import { get, post } from "./api.js";
import { byId, el } from "./dom.js";
import { count } from "./words.js";

const FORMATS = {
  parquet: ["cleaned.parquet", "The data, with what was found and decided as extra columns: corrected_label and kept among them."],
  csv: ["cleaned.csv", "The same as text; cells that a spreadsheet would run as formulas are escaped."],
  jsonl: ["decisions.jsonl", "Every decision, one a line: who, when, what, from what."],
  images: ["cleaned-images", "The images that are kept, one folder a class, by their corrected labels."],
  subset: ["subset", "keep_idx.npy and labels.npy, and the three lines that use them in a torch Subset."],
  needs: ["needs_data.csv", "The samples and regions that more data are wanted for."],
};

const form = byId("export");
const result = byId("result");
const chosen = () => form.elements.format.value;
let named = false;

function proposed() {
  if (!named) byId("to").value = FORMATS[chosen()][0];
}

async function summary() {
  const { reviewed, open, queues } = await get("/api/progress", { queue: "all" });
  const differ = queues.conflicts ? ` About ${count(queues.conflicts)} experts differ: the latest decision counts.` : "";
  byId("standing").textContent = `${count(reviewed)} samples were decided, ${count(open)} are open; an open sample keeps its label.${differ}`;
}

async function write(event) {
  event.preventDefault();
  const button = byId("write");
  button.disabled = true;
  result.replaceChildren(el("p", { class: "aside" }, "being written …"));
  try {
    const answer = await post("/api/export", { format: chosen(), to: byId("to").value.trim(), force: byId("force").checked });
    const facts = [el("p", {}, el("b", {}, "✓ written: "), el("code", {}, answer.path), answer.rows === null || answer.rows === undefined ? "" : `, ${count(answer.rows)} rows`)];
    if (answer.lines?.length) facts.push(el("pre", { tabindex: 0 }, answer.lines.join("\n")));
    result.replaceChildren(...facts);
    result.dataset.state = "done";
  } catch (error) {
    result.replaceChildren(el("p", { class: "bad" }, el("b", {}, "! not written: "), error.message));
    result.dataset.state = "failed";
  }
  button.disabled = false;
}

byId("formats").replaceChildren(
  ...Object.entries(FORMATS).map(([name, [, words]], i) =>
    el("label", { class: "format" }, el("input", { type: "radio", name: "format", value: name, checked: i === 0, "aria-describedby": `about-${name}` }), el("b", {}, name), el("span", { id: `about-${name}` }, words)),
  ),
);
form.addEventListener("change", proposed);
byId("to").addEventListener("input", () => (named = byId("to").value !== ""));
form.addEventListener("submit", write);
proposed();
summary().catch((error) => (byId("standing").textContent = error.message));
