/** How far: what was reviewed, what it found, and whether more would find more. */
import { byId, el, svg } from "./dom.js";
import { session } from "./session.js";
import { count, percent } from "./words.js";

const [WIDTH, HEIGHT] = [216, 92];
const PAD = { left: 26, right: 6, top: 6, bottom: 16 };

/** A round number just above `value`. */
function round(value) {
  const size = 10 ** Math.floor(Math.log10(Math.max(1, value)));
  return [1, 2, 3, 5, 10].map((step) => step * size).find((top) => top >= value);
}

const path = (points) => points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

function curve(progress) {
  const points = [{ reviewed: 0, finds: 0 }, ...progress.yield];
  const now = points[points.length - 1];
  const next = progress.next;
  const right = round(now.reviewed + (next ? next.samples : 0));
  const top = round(Math.max(now.finds + (next ? next.high : 0), right / 8));
  const x = (reviewed) => PAD.left + ((WIDTH - PAD.left - PAD.right) * reviewed) / right;
  const y = (finds) => HEIGHT - PAD.bottom - ((HEIGHT - PAD.top - PAD.bottom) * finds) / top;
  const at = ({ reviewed, finds }) => [x(reviewed), y(finds)];
  const parts = [
    svg("path", { class: "axis", d: path([[x(0), y(top)], [x(0), y(0)], [x(right), y(0)]]) }),
    svg("text", { x: x(0) - 3, y: y(top) + 8, class: "end" }, count(top)),
    svg("text", { x: x(0) - 3, y: y(0), class: "end" }, "0"),
    svg("text", { x: x(right), y: HEIGHT - 4, class: "end" }, `${count(right)} reviewed`),
  ];
  if (next) {
    const end = now.reviewed + next.samples;
    parts.push(
      svg("path", { class: "wedge", d: `${path([at(now), [x(end), y(now.finds + next.high)], [x(end), y(now.finds + next.low)]])}Z` }),
      svg("path", { class: "expected", d: path([at(now), [x(end), y(now.finds + next.expected)]]) }),
    );
  }
  parts.push(svg("path", { class: "finds", d: path(points.map(at)) }), svg("circle", { class: "now", cx: x(now.reviewed), cy: y(now.finds), r: 2.5 }));
  if (progress.stop.suggested) {
    const line = x(now.reviewed);
    parts.push(svg("path", { class: "stop", d: path([[line, PAD.top], [line, y(0)]]) }), svg("text", { x: line - 3, y: PAD.top + 8, class: "end stop" }, "stop"));
  }
  const words = `${now.finds} finds in ${now.reviewed} reviewed`;
  return svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `Yield curve: ${words}` }, parts);
}

/** The rail's curve and the line in the page's head. */
export function drawProgress(progress) {
  const { reviewed, open, finds } = progress;
  const share = reviewed ? ` (${percent(finds / reviewed)})` : "";
  const parts = [
    el("p", {}, el("b", {}, count(finds)), ` finds in `, el("b", {}, count(reviewed)), ` reviewed${share}`),
    reviewed ? curve(progress) : "",
    progress.stop.sentence ? el("p", { class: progress.stop.suggested ? "stop" : "" }, progress.stop.sentence) : "",
  ];
  byId("yield").replaceChildren(...parts);
  byId("reviewed").replaceChildren(el("b", {}, count(reviewed)), ` reviewed, `, el("b", {}, count(open)), " open");
  const bar = byId("bar");
  bar.max = Math.max(1, reviewed + open);
  bar.value = reviewed;
  bar.title = `${count(reviewed)} of ${count(reviewed + open)} in this queue, ${count(session.rows)} samples in all`;
}
