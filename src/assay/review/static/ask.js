/** The page's questions: which class, which rank, who decides, are you sure of so many. Each answers once, null if closed. */
import { bdi, byId, el } from "./dom.js";
import { session } from "./session.js";
import { count } from "./words.js";

const SHOWN = 12;

function opened(dialog, ready) {
  return new Promise((answer) => {
    let given = null;
    ready((value) => {
      given = value;
      dialog.close();
    });
    dialog.addEventListener("close", () => answer(given), { once: true });
    dialog.showModal();
  });
}

function onSubmit(dialog, value, done) {
  dialog.querySelector("form").onsubmit = (event) => {
    event.preventDefault();
    const given = value();
    if (given !== null && given !== "") done(given);
  };
}

/** One field in a dialog: a number or a name. */
function ask(id, value = "") {
  const dialog = byId(id);
  const input = dialog.querySelector("input");
  input.value = value;
  return opened(dialog, (done) => onSubmit(dialog, () => (input.checkValidity() ? input.value.trim() : null), done));
}

export const askRank = async () => {
  const answer = await ask("ask-rank");
  return answer === null ? null : Number(answer);
};

export const askUser = () => ask("ask-user", session.user ?? "");

/** Words first: beginnings, then anywhere. */
function matches(text, names) {
  const wanted = text.trim().toLocaleLowerCase();
  const low = names.map((name) => [name, name.toLocaleLowerCase()]);
  const begin = low.filter(([, name]) => name.startsWith(wanted));
  const within = low.filter(([, name]) => !name.startsWith(wanted) && name.includes(wanted));
  return [...begin, ...within].map(([name]) => name);
}

/** A class by the letters of its name; in a regression a number. */
export function askClass() {
  const dialog = byId("ask-class");
  const input = dialog.querySelector("input");
  const list = byId("found");
  let found = [];
  let at = 0;
  const draw = () => {
    found = session.classes ? matches(input.value, session.classes) : [];
    at = Math.max(0, Math.min(at, Math.min(found.length, SHOWN) - 1));
    list.replaceChildren(...found.slice(0, SHOWN).map((name, i) => el("li", { role: "option", id: `found-${i}`, "aria-selected": i === at ? "true" : "false", data: { index: i } }, bdi(name))));
    byId("found-more").textContent = session.classes ? (found.length > SHOWN ? `and ${count(found.length - SHOWN)} more` : found.length ? "" : "no class is called so") : "";
    if (found.length) input.setAttribute("aria-activedescendant", `found-${at}`);
    else input.removeAttribute("aria-activedescendant");
  };
  input.value = "";
  input.oninput = () => ((at = 0), draw());
  input.onkeydown = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    at += step;
    draw();
  };
  draw();
  return opened(dialog, (done) => {
    list.onclick = (event) => {
      const line = event.target.closest("li");
      if (line) done(found[Number(line.dataset.index)]);
    };
    onSubmit(dialog, () => (session.classes ? (found[at] ?? null) : Number.isFinite(Number(input.value)) ? input.value.trim() : null), done);
  });
}

/** True where the expert means all of them. */
export async function sure(title, lines) {
  const dialog = byId("ask-sure");
  byId("sure-title").textContent = title;
  byId("sure-lines").replaceChildren(...lines.map((line) => el("li", {}, line)));
  return (await opened(dialog, (done) => onSubmit(dialog, () => true, done))) === true;
}
