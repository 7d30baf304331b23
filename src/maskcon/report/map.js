"use strict";

// The map on its canvas: where points are drawn, which one is under the pointer, how it moves.
// It knows places, colours and shapes of points, and nothing of names or classes.

const RADIUS = 4; // of a point, in CSS pixels
const REACH = 14; // of the pointer
const MANY = 5000; // points, whose last drawing stands in for them while the map moves
const PAUSE = 120; // milliseconds after the last move, until they are drawn anew
const PICTURE = 20; // side in CSS pixels from which pictures stand in for points

class PlaceMap {
  /**
   * @param canvas element
   * @param x, y places of the points, 0..65535
   * @param options paint(index) -> style key; styles: {key: {colour, shape}};
   *     picture(context, index, x, y, side); related(index) -> indices; labels() -> [{text, x, y}];
   *     hovered(index, x, y), chosen(index)
   */
  constructor(canvas, x, y, options) {
    Object.assign(this, { canvas, x, y }, options);
    this.context = canvas.getContext("2d");
    this.shown = new Uint8Array(x.length).fill(1);
    this.hover = this.pinned = -1;
    this.visible = this.places = new Uint32Array(x.length);
    this.colours = new Map();
    this.pointers = new Map();
    new ResizeObserver(() => this.resize()).observe(canvas);
    this.resize();
    this.listen();
  }

  resize() {
    const first = !this.width;
    const middle = first ? null : this.world(this.width / 2, this.height / 2);
    this.ratio = window.devicePixelRatio || 1;
    this.width = this.canvas.clientWidth;
    this.height = this.canvas.clientHeight;
    this.canvas.width = Math.round(this.width * this.ratio);
    this.canvas.height = Math.round(this.height * this.ratio);
    const fit = Math.max(1, Math.min(this.width, this.height) - 4 * RADIUS) / 65535;
    if (first || this.scale === this.fit) {
      this.fit = fit;
      this.whole();
    } else {
      this.fit = fit;
      this.centre(...middle);
    }
  }

  whole() {
    this.scale = this.fit;
    this.centre(32767.5, 32767.5);
  }

  centre(x, y) {
    this.left = this.width / 2 - x * this.scale;
    this.top = this.height / 2 - y * this.scale;
    this.queue();
  }

  world(px, py) {
    return [(px - this.left) / this.scale, (py - this.top) / this.scale];
  }

  at(index) {
    return [this.x[index] * this.scale + this.left, this.y[index] * this.scale + this.top];
  }

  /** Make it larger by a factor, with a place on the canvas staying where it is. */
  zoom(factor, px = this.width / 2, py = this.height / 2) {
    const [x, y] = this.world(px, py);
    this.scale = Math.min(Math.max(this.scale * factor, this.fit / 2), this.fit * 400);
    this.left = px - x * this.scale;
    this.top = py - y * this.scale;
    this.queue(true);
  }

  move(dx, dy) {
    this.left += dx;
    this.top += dy;
    this.queue(true);
  }

  /** See that a point is on the canvas, not at its very edge. */
  reveal(index) {
    const [px, py] = this.at(index);
    const edge = 40;
    if (px < edge || py < edge || px > this.width - edge || py > this.height - edge) {
      this.centre(this.x[index], this.y[index]);
    }
    this.queue();
  }

  /** Draw before the next frame; where the map alone moved, what was drawn may serve once more. */
  queue(moved = false) {
    this.changed ||= !moved;
    this.waiting ||= requestAnimationFrame(() => {
      this.waiting = 0;
      if (this.width && this.height) this.draw(); // else it is hidden
    });
  }

  draw() {
    const began = performance.now();
    const { context } = this;
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    if (this.changed || !this.drawAgain()) this.drawAnew();
    this.changed = false;
    this.drawLabels();
    this.drawRelations();
    this.canvas.dataset.milliseconds = (performance.now() - began).toFixed(2);
  }

  /** Points or pictures, from where they are. */
  drawAnew() {
    const { x, y, shown, scale, left, top, places } = this;
    let drawn = 0;
    let seen = 0;
    for (let i = 0; i < x.length; i++) {
      if (!shown[i]) continue;
      drawn++;
      const px = x[i] * scale + left;
      const py = y[i] * scale + top;
      if (px > -40 && py > -40 && px < this.width + 40 && py < this.height + 40) places[seen++] = i;
    }
    const visible = this.visible = places.subarray(0, seen);
    const room = Math.sqrt((0.5 * this.width * this.height) / Math.max(1, visible.length));
    this.side = room >= PICTURE && (scale > 1.5 * this.fit || drawn < 150) ? Math.min(64, room) : 0;
    if (this.side) this.drawPictures();
    else this.drawPoints();
    this.canvas.dataset.drawn = drawn;
    this.canvas.dataset.visible = visible.length;
    this.canvas.dataset.pictures = this.side ? visible.length : 0;
  }

  /**
   * Many points, as they were drawn last, moved and stretched; whether that was done. It is not
   * where too little of them would be seen. Soon after the last move they are drawn anew.
   */
  drawAgain() {
    const { last } = this;
    if (!last || this.side || this.visible.length <= MANY) return false;
    const by = this.scale / last.scale;
    const px = this.left - last.left * by;
    const py = this.top - last.top * by;
    const far = Math.abs(px) > 0.4 * this.width || Math.abs(py) > 0.4 * this.height;
    if (far || by < 0.6 || by > 1.7) return false;
    this.context.drawImage(last.canvas, px, py, this.width * by, this.height * by);
    clearTimeout(this.pausing);
    if (by !== 1 || px || py) this.pausing = setTimeout(() => this.queue(), PAUSE);
    return true;
  }

  /**
   * Points, pixel by pixel into a buffer: twenty thousand drawing calls take far longer where
   * there is no GPU, and no less where there is one.
   */
  drawPoints() {
    const { x, y, scale, left, top, ratio } = this;
    const { width: wide, height: high } = this.canvas;
    if (this.buffer?.width !== wide || this.buffer?.height !== high) {
      this.buffer = this.context.createImageData(wide, high);
      this.pixels = new Uint32Array(this.buffer.data.buffer);
    }
    const { pixels } = this;
    pixels.fill(0);
    const zoomed = Math.min(1.6, Math.max(1, Math.sqrt(scale / this.fit) * 0.9));
    const many = this.visible.length;
    const size = RADIUS * ratio * zoomed * (many > 40000 ? 0.4 : many > 6000 ? 0.6 : 0.9);
    const masks = {};
    for (const i of this.visible) {
      const { colour, shape } = this.colouring(this.paint(i));
      const mask = (masks[shape] ??= maskOf(shape, size, wide));
      const column = Math.round((x[i] * scale + left) * ratio);
      const row = Math.round((y[i] * scale + top) * ratio);
      const { half, inner, edge, opacity } = mask;
      if (column < half || row < half || column >= wide - half || row >= high - half) continue;
      const place = row * wide + column;
      for (let j = 0; j < inner.length; j++) pixels[place + inner[j]] = colour;
      for (let j = 0; j < edge.length; j++) {
        const at = place + edge[j];
        pixels[at] = blend(pixels[at], colour, opacity[j]);
      }
    }
    const { canvas } = (this.last ??= { canvas: document.createElement("canvas") });
    if (canvas.width !== wide || canvas.height !== high) Object.assign(canvas, { width: wide, height: high });
    Object.assign(this.last, { scale, left, top });
    canvas.getContext("2d").putImageData(this.buffer, 0, 0);
    this.context.drawImage(canvas, 0, 0, this.width, this.height);
  }

  /** The bytes of a style's colour, and its shape; kept until styles change. */
  colouring(key) {
    let made = this.colours.get(key);
    if (!made) {
      const { colour, shape } = this.styles(key);
      made = { colour: numberOf(colour), shape };
      this.colours.set(key, made);
    }
    return made;
  }

  drawPictures() {
    const { context, side } = this;
    for (const i of this.visible) {
      const [px, py] = this.at(i);
      const { colour, shape } = this.styles(this.paint(i));
      context.fillStyle = colour;
      context.fillRect(px - side / 2 - 2, py - side / 2 - 2, side + 4, side + 4);
      this.picture(context, i, px - side / 2, py - side / 2, side);
      if (shape === "circle") continue;
      context.save(); // shapes tell what colours tell
      context.translate(px + side / 2, py - side / 2);
      outline(context, shape, 5);
      context.strokeStyle = this.ink.paper;
      context.lineWidth = 3;
      context.stroke();
      context.fill();
      context.restore();
    }
  }

  drawRelations() {
    const { context } = this;
    const index = this.hover >= 0 ? this.hover : this.pinned;
    if (index >= 0) {
      const [px, py] = this.at(index);
      context.strokeStyle = this.ink.line;
      context.lineWidth = 1.2;
      context.beginPath();
      for (const other of this.related(index)) {
        context.moveTo(px, py);
        context.lineTo(...this.at(other));
      }
      context.stroke();
    }
    for (const one of new Set([this.pinned, this.hover])) {
      if (one < 0) continue;
      const [px, py] = this.at(one);
      const side = Math.max(this.side, 28);
      this.picture(context, one, px - side / 2, py - side / 2, side);
      for (const [width, colour] of [[6, this.ink.paper], [3, this.ink.ring]]) {
        context.strokeStyle = colour;
        context.lineWidth = width;
        context.strokeRect(px - side / 2 - 2, py - side / 2 - 2, side + 4, side + 4);
      }
    }
  }

  /** Class names, none over another. */
  drawLabels() {
    const { context } = this;
    if (this.side > 40) return;
    context.font = "600 12px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineJoin = "round";
    context.lineWidth = 4;
    const taken = [];
    for (const { text, x, y } of this.labels()) {
      const at = x * this.scale + this.left;
      const py = y * this.scale + this.top;
      if (at < 0 || py < 0 || at > this.width || py > this.height) continue;
      const half = context.measureText(text).width / 2 + 4;
      const px = Math.min(Math.max(at, half), Math.max(half, this.width - half)); // whole words
      const box = [px - half, py - 9, px + half, py + 9];
      if (taken.some((b) => box[0] < b[2] && b[0] < box[2] && box[1] < b[3] && b[1] < box[3])) continue;
      taken.push(box);
      context.strokeStyle = this.ink.paper;
      context.fillStyle = this.ink.text;
      context.strokeText(text, px, py);
      context.fillText(text, px, py);
      if (taken.length >= 60) break;
    }
  }

  /**
   * Where the names of classes stand: at the middle of their shown points, the tightest first.
   * @param key number of the class of each point; below 0 is none
   * @param name(number) -> text
   */
  middles(key, name) {
    const groups = new Map();
    for (let i = 0; i < this.x.length; i++) {
      if (!this.shown[i] || key[i] < 0) continue;
      if (!groups.has(key[i])) groups.set(key[i], []);
      groups.get(key[i]).push(i);
    }
    const middle = (values) => values.sort((a, b) => a - b)[values.length >> 1];
    const found = [...groups].map(([number, members]) => {
      const [x, y] = [this.x, this.y].map((all) => middle(members.map((i) => all[i])));
      const off = members.map((i) => Math.abs(this.x[i] - x) + Math.abs(this.y[i] - y));
      const whole = name(number);
      const text = whole.length > 28 ? whole.slice(0, 27) + "…" : whole;
      return { text, x, y, spread: middle(off) / Math.sqrt(members.length) };
    });
    return found.sort((a, b) => a.spread - b.spread);
  }

  /** Lay a box beside a place of the canvas, on the side where there is room. */
  beside(box, px, py) {
    const right = px > this.width / 2;
    const low = py > this.height / 2;
    box.style.left = right ? "" : `${px + 16}px`;
    box.style.right = right ? `${this.width - px + 16}px` : "";
    box.style.top = low ? "" : `${py + 16}px`;
    box.style.bottom = low ? `${this.height - py + 16}px` : "";
  }

  /** The drawn point nearest to a place on the canvas, within reach; -1 is none. */
  nearest(px, py, reach = Math.max(REACH, this.side / 2)) {
    let best = -1;
    let least = reach * reach;
    for (const i of this.visible) {
      const dx = this.x[i] * this.scale + this.left - px;
      const dy = this.y[i] * this.scale + this.top - py;
      const off = dx * dx + dy * dy;
      if (off <= least) {
        least = off;
        best = i;
      }
    }
    return best;
  }

  /** The point that an arrow leads to: near, and rather ahead than aside; -1 is none. */
  ahead(from, dx, dy) {
    let best = -1;
    let least = Infinity;
    for (let i = 0; i < this.x.length; i++) {
      if (!this.shown[i] || i === from) continue;
      const ax = this.x[i] - this.x[from];
      const ay = this.y[i] - this.y[from];
      const along = ax * dx + ay * dy;
      const aside = Math.abs(ax * dy - ay * dx);
      if (along <= 0 || aside > 2 * along) continue;
      const cost = along + 2 * aside;
      if (cost < least) {
        least = cost;
        best = i;
      }
    }
    return best;
  }

  listen() {
    const place = (event) => {
      const box = this.canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    this.canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const lines = event.deltaMode === 1 ? 20 : 1;
      this.zoom(Math.exp(-event.deltaY * lines * 0.0015), ...place(event));
    }, { passive: false });
    this.canvas.addEventListener("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, place(event));
      this.moved = this.pointers.size > 1;
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (this.pointers.has(event.pointerId)) this.drag(event.pointerId, place(event));
      else this.point(...place(event));
    });
    for (const name of ["pointerup", "pointercancel"]) {
      this.canvas.addEventListener(name, (event) => {
        const [px, py] = place(event);
        const pressed = this.pointers.delete(event.pointerId);
        if (pressed && name === "pointerup" && !this.moved) this.chosen(this.nearest(px, py));
      });
    }
    this.canvas.addEventListener("pointerleave", () => this.point(NaN, NaN));
    this.canvas.addEventListener("keydown", (event) => this.key(event));
  }

  point(px, py) {
    const index = this.nearest(px, py);
    if (index !== this.hover) {
      this.hover = index;
      this.queue(true);
    }
    this.hovered(index, px, py);
  }

  /** One finger or the mouse moves the map; two fingers stretch it. */
  drag(id, [px, py]) {
    const [ax, ay] = this.pointers.get(id);
    if (!this.moved && Math.hypot(px - ax, py - ay) < 4) return;
    this.moved = true;
    const other = [...this.pointers].find(([one]) => one !== id)?.[1];
    this.pointers.set(id, [px, py]);
    if (other) {
      const before = Math.hypot(ax - other[0], ay - other[1]);
      const after = Math.hypot(px - other[0], py - other[1]);
      this.zoom(after / Math.max(before, 1), (px + other[0]) / 2, (py + other[1]) / 2);
    } else this.move(px - ax, py - ay);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const arrow = arrows[event.key];
    if (arrow && event.shiftKey) this.move(-60 * arrow[0], -60 * arrow[1]);
    else if (arrow) this.step(...arrow);
    else if (event.key === "+" || event.key === "=") this.zoom(1.4);
    else if (event.key === "-") this.zoom(1 / 1.4);
    else if (event.key === "0" || event.key === "Home") this.whole();
    else if (event.key === "Escape") this.chosen(-1);
    else return;
    event.preventDefault();
  }

  step(dx, dy) {
    const from = this.pinned;
    const to = from < 0 || !this.shown[from]
      ? this.nearest(this.width / 2, this.height / 2, Infinity)
      : this.ahead(from, dx, dy);
    if (to >= 0) this.chosen(to);
  }
}

/** The outline of a point around 0, 0. */
function outline(context, shape, radius) {
  context.beginPath();
  if (shape === "circle") context.arc(0, 0, radius, 0, 2 * Math.PI);
  else if (shape === "diamond") {
    const r = radius * 1.15;
    context.moveTo(0, -r);
    context.lineTo(r, 0);
    context.lineTo(0, r);
    context.lineTo(-r, 0);
    context.closePath();
  } else {
    const r = radius * 0.95; // a cross, of two bars that lie aslant
    const w = radius * 0.4;
    context.moveTo(0, -w);
    for (const [x, y] of [
      [r - w, -r], [r, w - r], [w, 0], [r, r - w], [r - w, r], [0, w],
      [w - r, r], [-r, r - w], [-w, 0], [-r, w - r], [w - r, -r],
    ]) context.lineTo(x, y);
    context.closePath();
  }
}

const sample = document.createElement("canvas").getContext("2d", { willReadFrequently: true });

/** A colour of any notation as the bytes of an opaque pixel. */
function numberOf(colour) {
  sample.canvas.width = sample.canvas.height = 1;
  sample.fillStyle = colour;
  sample.fillRect(0, 0, 1, 1);
  return new Uint32Array(sample.getImageData(0, 0, 1, 1).data.buffer)[0];
}

/**
 * The pixels of a shape around 0, 0 in a buffer so wide, as steps from the middle: those inside,
 * and those at the edge with an opacity 9..254 each. None is more than `half` away.
 */
function maskOf(shape, radius, wide) {
  const half = Math.ceil(1.2 * radius) + 1;
  const side = 2 * half + 1;
  sample.canvas.width = sample.canvas.height = side;
  sample.translate(half + 0.5, half + 0.5);
  outline(sample, shape, radius);
  sample.fill();
  const { data: bytes } = sample.getImageData(0, 0, side, side);
  const [inner, edge, opacity] = [[], [], []];
  for (let place = 0; place < side * side; place++) {
    const found = bytes[4 * place + 3];
    const step = (Math.floor(place / side) - half) * wide + (place % side) - half;
    if (found === 255) inner.push(step);
    else if (found > 8) {
      edge.push(step);
      opacity.push(found);
    }
  }
  const numbers = [inner, edge, opacity].map((list) => Int32Array.from(list));
  return { half, inner: numbers[0], edge: numbers[1], opacity: numbers[2] };
}

/** A pixel with a colour over it, of an opacity below 255; what lies below may be empty. */
function blend(below, colour, opacity) {
  if (below === 0) return ((colour & 0xffffff) | (opacity << 24)) >>> 0;
  const rest = 255 - opacity; // two bytes of four at a time, with room between them
  const outer = (Math.imul(colour & 0xff00ff, opacity) + Math.imul(below & 0xff00ff, rest)) >>> 8;
  const inner = (Math.imul(colour & 0xff00, opacity) + Math.imul(below & 0xff00, rest)) >>> 8;
  const alpha = Math.max(below >>> 24, opacity);
  return ((outer & 0xff00ff) | (inner & 0xff00) | (alpha << 24)) >>> 0;
}
