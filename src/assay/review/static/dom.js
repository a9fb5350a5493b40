/** Elements made without markup: whatever comes from data is text and nothing else. */

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, handler] of Object.entries(value)) node.addEventListener(event, handler);
    else if (name === "data") Object.assign(node.dataset, value);
    else if (name === "value") node.value = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** el("p", { class: "why" }, "text", other) */
export const el = (name, attributes = {}, ...children) => fill(document.createElement(name), attributes, children);

/** The same for a drawing. */
export const svg = (name, attributes = {}, ...children) => fill(document.createElementNS(SVG, name), attributes, children);

/** A name from the data: its direction of writing stays its own. */
export const bdi = (text, attributes = {}) => el("bdi", attributes, text === null || text === undefined ? "—" : String(text));

export const byId = (id) => document.getElementById(id);

/** A glyph for the eye, with nothing for the ear: words stand beside it. */
export const glyph = (sign, attributes = {}) => el("span", { "aria-hidden": "true", ...attributes }, sign);

/** Calls after `wait` ms without another call. */
export function settled(call, wait) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => call(...values), wait);
  };
}

/** Read out by screen readers, seen by nobody. */
export function say(text) {
  byId("live").textContent = text;
}

/** A line at the foot of the page, with a button where there is something to do. It stays where `stays`. */
export function notice(text, { action = null, tone = "", stays = false, name = text } = {}) {
  const rack = byId("notices");
  rack.querySelector(`[data-name="${CSS.escape(name)}"]`)?.remove();
  const close = () => line.remove();
  const button = action && el("button", { type: "button", on: { click: () => (action.run(), close()) } }, action.text);
  const shut = el("button", { type: "button", class: "quiet", "aria-label": "Close this message", on: { click: close } }, "✕");
  const line = el("div", { class: `notice ${tone}`, data: { name } }, el("span", {}, text), button, shut);
  rack.append(line);
  while (rack.children.length > 4) rack.firstElementChild.remove();
  if (!stays) setTimeout(close, 7000);
  return close;
}
