/** A window on the plane: data to pixels, zoom about a point, pan. */
export class View {
  constructor(limits) {
    [this.x0, this.x1, this.y0, this.y1] = limits;
    this.home();
  }

  home() {
    this.scale = 1;
    this.cx = (this.x0 + this.x1) / 2;
    this.cy = (this.y0 + this.y1) / 2;
  }

  size(width, height) {
    Object.assign(this, { width, height });
    this.unit = 0.94 * Math.min(width / (this.x1 - this.x0 || 1), height / (this.y1 - this.y0 || 1));
  }

  get zoom() {
    return this.unit * this.scale;
  }

  toPixels(x, y) {
    return [this.width / 2 + (x - this.cx) * this.zoom, this.height / 2 - (y - this.cy) * this.zoom];
  }

  toData(px, py) {
    return [this.cx + (px - this.width / 2) / this.zoom, this.cy - (py - this.height / 2) / this.zoom];
  }

  /** The data under the pixel stay under it. */
  zoomAt(px, py, factor) {
    const [x, y] = this.toData(px, py);
    this.scale = Math.max(0.5, Math.min(500, this.scale * factor));
    this.cx = x - (px - this.width / 2) / this.zoom;
    this.cy = y + (py - this.height / 2) / this.zoom;
  }

  pan(dx, dy) {
    this.cx -= dx / this.zoom;
    this.cy += dy / this.zoom;
  }
}
