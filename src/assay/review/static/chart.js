/** The map on its canvas: points by class (colour and shape), area by influence, the chosen kinds ringed and on top. */
const LIGHT = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#7a6a00", "#5d3fa8", "#6b7280", "#00505c"];
const DARK = ["#56b4e9", "#e6b23c", "#2fbf94", "#e2a3c7", "#9ad4f5", "#f08a3c", "#f0e442", "#b09af0", "#a3acb8", "#5fc9d8"];
const SHAPES = ["circle", "square", "triangle", "diamond", "cross", "down"];

export const dark = () => {
  const theme = document.documentElement.dataset.theme;
  return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};

export const colour = (code) => (dark() ? DARK : LIGHT)[Math.max(0, code) % LIGHT.length];
export const shape = (code) => SHAPES[(Math.max(0, code) + Math.floor(Math.max(0, code) / LIGHT.length)) % SHAPES.length];

/** A path about (x, y); every shape has about the area of the circle. */
export function trace(pen, form, x, y, r) {
  const corners = {
    square: [[-0.89, -0.89], [0.89, -0.89], [0.89, 0.89], [-0.89, 0.89]],
    triangle: [[0, -1.3], [1.2, 0.8], [-1.2, 0.8]],
    down: [[0, 1.3], [1.2, -0.8], [-1.2, -0.8]],
    diamond: [[0, -1.25], [1.25, 0], [0, 1.25], [-1.25, 0]],
    cross: [[-0.4, -1.2], [0.4, -1.2], [0.4, -0.4], [1.2, -0.4], [1.2, 0.4], [0.4, 0.4], [0.4, 1.2], [-0.4, 1.2], [-0.4, 0.4], [-1.2, 0.4], [-1.2, -0.4], [-0.4, -0.4]],
  }[form];
  pen.beginPath();
  if (!corners) return void pen.arc(x, y, r, 0, 2 * Math.PI);
  corners.forEach(([dx, dy], i) => pen[i ? "lineTo" : "moveTo"](x + r * dx, y + r * dy));
  pen.closePath();
}

/** Radii in pixels: area as the influence, between a speck and a coin. */
export function radii(influence) {
  const sorted = [...influence].filter(Number.isFinite).sort((a, b) => a - b);
  const high = sorted[Math.floor(0.995 * (sorted.length - 1))] || 1;
  return influence.map((value) => 2 + 8 * Math.sqrt(Math.min(1, Math.max(0, value || 0) / high)));
}

export class Chart {
  constructor(canvas, data, view) {
    Object.assign(this, { canvas, data, view, hidden: new Set(), only: false, at: -1, image: null });
    this.radius = radii(data.influence);
    this.ring(new Set([1, 2]));
  }

  /** The kinds that are ringed and on top (0 typical, 1 mislabeled, 2 under-represented, 3 boundary). */
  ring(kinds) {
    this.flagged = this.data.kinds.map((kind) => kinds.has(kind));
    this.order = [...this.flagged.keys()].sort((a, b) => this.flagged[a] - this.flagged[b] || this.radius[b] - this.radius[a]);
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    this.ratio = devicePixelRatio || 1;
    [this.canvas.width, this.canvas.height] = [Math.round(width * this.ratio), Math.round(height * this.ratio)];
    this.view.size(width, height);
    this.draw();
  }

  shown(i) {
    return !this.hidden.has(this.data.given[i]) && (!this.only || this.flagged[i]);
  }

  draw() {
    const pen = this.canvas.getContext("2d");
    const { flagged } = this;
    const { x, y, given } = this.data;
    const grow = Math.min(2, Math.sqrt(this.view.scale)) * (x.length > 5000 ? 0.7 : 1);
    const ink = getComputedStyle(document.body).color;
    pen.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    pen.clearRect(0, 0, this.view.width, this.view.height);
    if (this.image) this.#density(pen);
    for (const i of this.order) {
      if (!this.shown(i)) continue;
      const [px, py] = this.view.toPixels(x[i], y[i]);
      if (px < -20 || py < -20 || px > this.view.width + 20 || py > this.view.height + 20) continue;
      trace(pen, shape(given[i]), px, py, this.radius[i] * grow);
      pen.fillStyle = colour(given[i]);
      pen.globalAlpha = flagged[i] ? 0.9 : 0.45;
      pen.fill();
      if (!flagged[i]) continue;
      pen.globalAlpha = 1;
      pen.lineWidth = 1.3;
      pen.strokeStyle = ink;
      pen.stroke();
    }
    pen.globalAlpha = 1;
    if (this.at >= 0) this.#ring(pen, ink);
  }

  #ring(pen, ink) {
    const [px, py] = this.view.toPixels(this.data.x[this.at], this.data.y[this.at]);
    pen.beginPath();
    pen.arc(px, py, this.radius[this.at] + 8, 0, 2 * Math.PI);
    pen.lineWidth = 2.5;
    pen.strokeStyle = ink;
    pen.setLineDash([4, 3]);
    pen.stroke();
    pen.setLineDash([]);
  }

  #density(pen) {
    const [x0, x1, y0, y1] = this.data.limits;
    const [left, top] = this.view.toPixels(x0, y1);
    const [right, bottom] = this.view.toPixels(x1, y0);
    pen.imageSmoothingEnabled = this.view.scale < 4;
    pen.drawImage(this.image, left, top, right - left, bottom - top);
  }

  /** The point nearest to a pixel within `reach`, else −1. */
  nearest(px, py, reach = 14) {
    let [found, least] = [-1, reach * reach];
    for (let i = 0; i < this.data.row.length; i++) {
      if (!this.shown(i)) continue;
      const [qx, qy] = this.view.toPixels(this.data.x[i], this.data.y[i]);
      const distance = (qx - px) ** 2 + (qy - py) ** 2;
      if (distance < least) [found, least] = [i, distance];
    }
    return found;
  }

  /** The next point in a direction, for those without a pointer: near, and not far off the line. */
  towards(dx, dy) {
    const from = this.at >= 0 ? this.view.toPixels(this.data.x[this.at], this.data.y[this.at]) : [this.view.width / 2, this.view.height / 2];
    let [found, least] = [this.at, Infinity];
    for (let i = 0; i < this.data.row.length; i++) {
      if (i === this.at || !this.shown(i)) continue;
      const [px, py] = this.view.toPixels(this.data.x[i], this.data.y[i]);
      const [ax, ay] = [px - from[0], py - from[1]];
      const along = ax * dx + ay * dy;
      const off = Math.abs(ax * dy - ay * dx);
      if (along > 0.5 && off <= along && along + 2 * off < least) [found, least] = [i, along + 2 * off];
    }
    return found;
  }
}
