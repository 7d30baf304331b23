// The map of all pictures: colours, filters that act together, the lasso, and the chosen picture.

/* global byId, element, named, colourOf, inkOf, scheme, dark:writable, PlaceMap */
import { numbers, thumbOf } from "./api.js";
import { showSimilar } from "./actions.js";
import {
  attempt, groupOf, isNamed, on, pick, plural, state, titleOf, toggle, unpick,
} from "./store.js";
import { described, factsOf, openViewer } from "./viewer.js";
import { matching, typed } from "./words.js";

const SIDE = 65535; // of the map's plane, as PlaceMap has it
const KEPT = 4000; // small pictures
const AT_ONCE = 6; // requests for them

/** Small pictures for the map, fetched when they are looked at; the last that was asked for first. */
class Thumbs {
  constructor(arrived) {
    Object.assign(this, { arrived, kept: new Map(), wanted: new Set(), busy: 0 });
  }

  /** The picture, or null: then it is on its way. */
  of(id) {
    const found = this.kept.get(id);
    if (found === undefined) {
      this.wanted.delete(id);
      this.wanted.add(id);
      this.more();
    }
    return found ?? null;
  }

  /** What was not fetched when the map went on is not wanted any more. */
  forget() {
    this.wanted.clear();
  }

  more() {
    while (this.busy < AT_ONCE && this.wanted.size) {
      const id = [...this.wanted].at(-1);
      this.wanted.delete(id);
      this.busy++;
      this.kept.set(id, null);
      const image = new Image();
      image.src = thumbOf(id, 64);
      image.decode().then(() => this.keep(id, image), () => {}).finally(() => {
        this.busy--;
        this.more();
      });
    }
  }

  keep(id, image) {
    this.kept.delete(id);
    this.kept.set(id, image);
    if (this.kept.size > KEPT) this.kept.delete(this.kept.keys().next().value);
    this.arrived();
  }
}

/** The house's map with picks and a lasso. */
class PickingMap extends PlaceMap {
  setTool(lasso) {
    this.tool = lasso;
    this.canvas.classList.toggle("lasso", lasso);
    byId("lasso").setAttribute("aria-pressed", String(lasso));
  }

  listen() {
    const begin = (event) => {
      const { left, top } = this.canvas.getBoundingClientRect();
      const draws = event.button === 0 && (this.tool || event.shiftKey);
      this.path = draws ? [[event.clientX - left, event.clientY - top]] : null;
      this.adds = event.ctrlKey || event.metaKey;
    };
    this.canvas.addEventListener("pointerdown", begin, { capture: true });
    super.listen();
    this.canvas.addEventListener("pointerup", () => this.around());
    this.canvas.addEventListener("pointercancel", () => { this.path = null; });
    this.canvas.addEventListener("dblclick", () => { if (this.pinned >= 0) openViewer([this.pinned], 0); });
  }

  drag(id, place) {
    if (!this.path || this.pointers.size > 1) {
      this.path = null;
      super.drag(id, place);
      return;
    }
    this.moved = true;
    this.path.push(place);
    this.queue();
  }

  /** Pick what lies inside of the path. */
  around() {
    const { path } = this;
    this.path = null;
    if (!path || path.length < 3) return;
    const outline = new Path2D();
    path.forEach(([x, y], i) => (i ? outline.lineTo(x, y) : outline.moveTo(x, y)));
    outline.closePath();
    const [xs, ys] = [path.map(([x]) => x), path.map(([, y]) => y)];
    const box = [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
    this.context.setTransform(1, 0, 0, 1, 0, 0);
    const inside = this.visible.filter((i) => {
      const [px, py] = this.at(i);
      if (px < box[0] || py < box[1] || px > box[2] || py > box[3]) return false;
      return this.context.isPointInPath(outline, px, py);
    });
    if (!this.adds) state.picked.clear();
    pick(inside);
  }

  draw() {
    super.draw();
    const { context } = this;
    const radius = this.side ? this.side / 2 + 4 : 6;
    context.strokeStyle = this.ink.ring;
    context.lineWidth = 2.5;
    context.beginPath();
    for (const i of state.picked) {
      if (!this.shown[i]) continue;
      const [px, py] = this.at(i);
      if (px < -40 || py < -40 || px > this.width + 40 || py > this.height + 40) continue;
      if (this.side) context.rect(px - radius, py - radius, 2 * radius, 2 * radius);
      else {
        context.moveTo(px + radius, py);
        context.arc(px, py, radius, 0, 2 * Math.PI);
      }
    }
    context.stroke();
    if (!this.path?.length) return;
    context.beginPath();
    for (const [px, py] of this.path) context.lineTo(px, py);
    context.closePath();
    context.setLineDash([6, 4]);
    context.lineWidth = 2;
    context.stroke();
    context.setLineDash([]);
    context.globalAlpha = 0.12;
    context.fillStyle = this.ink.ring;
    context.fill();
    context.globalAlpha = 1;
  }

  key(event) {
    if (event.key === " " && this.pinned >= 0) toggle(this.pinned);
    else if (event.key === "Enter" && this.pinned >= 0) openViewer([this.pinned], 0);
    else if (event.key === "l") this.setTool(!this.tool);
    else if ("+=-".includes(event.key) && this.pinned >= 0) {
      this.reveal(this.pinned);
      this.zoom(event.key === "-" ? 1 / 1.4 : 1.4, ...this.at(this.pinned));
    } else {
      super.key(event);
      if (event.defaultPrevented && event.key !== "Escape") event.stopPropagation();
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }
}

let map = null;
let keys = new Int32Array(0); // of each point's colour
let labels = [];
const numberOf = new Map(); // group -> a number of its colour, which stays when others come and go
const off = new Set(); // coarse classes that are not shown

const MEANING = {
  named: ["no name yet", "named"],
  outlier: ["in its group", "outlier"],
};
const mode = () => byId("colour").value;

/** A number for each group, the same for as long as the page is open. */
function colourNumber(group) {
  if (!numberOf.has(group.id)) numberOf.set(group.id, numberOf.size);
  return numberOf.get(group.id);
}

function style(key) {
  if (key < 0) return { colour: map.ink.line, shape: "circle" };
  if (mode() === "coarse" || mode() === "group") return { colour: colourOf(key), shape: "circle" };
  if (key === 0) return { colour: map.ink.line, shape: "circle" };
  return { colour: colourOf(mode() === "named" ? 7 : 0), shape: "diamond" };
}

function classNumbers() {
  return new Map(state.project.coarse.map(({ name }, number) => [name, number]));
}

/** Colours, after what they mean has changed. */
function recolour() {
  const numbersOf = classNumbers();
  const ofGroup = {
    coarse: (group) => numbersOf.get(group.coarse) ?? -1,
    group: colourNumber,
    named: (group) => Number(isNamed(group)),
    outlier: () => 0,
  }[mode()];
  const each = state.groups.map(ofGroup);
  keys = Int32Array.from(state.members, (group) => each[group] ?? -1);
  if (mode() === "outlier") for (const id of state.outliers.keys()) keys[id] = 1;
  map.ink = inkOf();
  map.colours.clear();
  for (const line of byId("coarse").children) {
    const swatch = line.querySelector(".swatch");
    swatch.hidden = mode() !== "coarse";
    swatch.style.background = colourOf(numbersOf.get(line.dataset.key));
  }
  const legend = byId("legend");
  legend.hidden = !MEANING[mode()];
  legend.replaceChildren(...(MEANING[mode()] ?? []).map((words, key) => {
    const swatch = element("span", { className: "swatch" });
    swatch.style.background = style(key).colour;
    return element("span", { className: "key" }, swatch, ` ${words}`);
  }));
  map.queue();
}

/** Which pictures are shown: those that pass all filters at once. */
function filter() {
  const has = matching("words");
  const only = byId("only").value;
  const passes = state.groups.map((group) => !off.has(group.coarse) &&
    (only !== "unnamed" || !isNamed(group)));
  let count = 0;
  for (let i = 0; i < map.x.length; i++) {
    const group = state.members[i];
    const shown = (group < 0 ? only !== "unnamed" : passes[group]) && has(i) &&
      (only !== "outliers" || state.outliers.has(i)) && (only !== "picked" || state.picked.has(i));
    map.shown[i] = shown ? 1 : 0;
    count += shown;
  }
  byId("count").textContent = `${count.toLocaleString("en")} of ${plural(map.x.length, "picture")} shown`;
  const text = state.groups.map(titleOf);
  labels = map.middles(state.members, (number) => text[number] ?? "");
  map.hover = -1;
  byId("tip").hidden = true;
  map.queue();
}

function fillClasses() {
  byId("coarse").replaceChildren(...state.project.coarse.map(({ name, count }) => {
    const box = element("input", { type: "checkbox", checked: !off.has(name) });
    box.addEventListener("change", () => {
      if (box.checked) off.delete(name);
      else off.add(name);
      filter();
    });
    const line = element("label", { className: "check" }, box, element("span", { className: "swatch" }),
      named(name), element("small", { textContent: count.toLocaleString("en") }));
    line.dataset.key = name;
    return line;
  }));
}

function paintPicture(context, id, px, py, side) {
  const image = thumbs.of(id);
  if (!image) return;
  const cut = Math.min(image.naturalWidth, image.naturalHeight);
  context.drawImage(image, (image.naturalWidth - cut) / 2, (image.naturalHeight - cut) / 2, cut, cut, px, py, side, side);
}

const thumbs = new Thumbs(() => map?.queue());

// The picture beside the pointer, and the one that is kept in the panel.

function hover(id, px, py) {
  const tip = byId("tip");
  tip.hidden = id < 0 || map.pointers.size > 0;
  if (tip.hidden) return;
  if (tip.dataset.id !== String(id)) {
    tip.dataset.id = id;
    tip.firstElementChild.src = thumbOf(id, 128);
    const group = groupOf(id);
    tip.lastElementChild.replaceChildren(
      ...(group ? [element("b", {}, named(titleOf(group))), element("span", {}, named(group.coarse))] : ["no group"]),
      ...(state.outliers.has(id) ? [element("small", { textContent: state.outliers.get(id).reason || "outlier" })] : []));
  }
  map.beside(tip, px, py);
}

async function choose(id) {
  map.pinned = id;
  map.hover = -1;
  byId("tip").hidden = true;
  state.focused = id;
  map.queue();
  if (id < 0) {
    unpick();
    return;
  }
  map.reveal(id);
  const facts = await attempt(() => factsOf(id));
  if (!facts || map.pinned !== id) return;
  const group = groupOf(id);
  const image = element("img", { className: "large", src: thumbOf(id, 256), alt: facts.name });
  const buttons = [
    ["Pick", () => toggle(id)], ["Large", () => openViewer([id], 0)], ["Similar", () => showSimilar([id])],
    ["Open group", () => { location.hash = `#group=${encodeURIComponent(group.id)}`; }],
  ].slice(0, group ? 4 : 3).map(([words, act]) => {
    const button = element("button", { type: "button", textContent: words });
    button.addEventListener("click", act);
    return button;
  });
  byId("details").replaceChildren(image,
    element("div", { className: "lines" }, ...described({ ...facts, group: group && titleOf(group) })),
    element("p", { className: "buttons" }, ...buttons));
  byId("live").textContent = `${group ? titleOf(group) : "no group"}, ${facts.coarse ?? ""}, ${facts.name}`;
}

/** Where all pictures lie: x and y. */
async function places() {
  const found = await numbers("map", Float32Array);
  const x = Float32Array.from({ length: found.length / 2 }, (_, i) => found[2 * i] * SIDE);
  return [x, Float32Array.from(x, (_, i) => found[2 * i + 1] * SIDE)];
}

async function start() {
  const [x, y] = await places();
  map = new PickingMap(byId("canvas"), x, y, {
    paint: (i) => keys[i], styles: style, ink: inkOf(), picture: paintPicture, related: () => [],
    labels: () => (byId("written").checked ? labels : []), hovered: hover, chosen: choose,
  });
  window.maskconMap = map; // for a person at the console, and for tests
  for (const [id, act] of [
    ["closer", () => map.zoom(1.5)], ["farther", () => map.zoom(1 / 1.5)], ["whole", () => map.whole()],
    ["lasso", () => map.setTool(!map.tool)],
    ["pick-shown", () => pick(Array.from(map.shown.keys()).filter((i) => map.shown[i]))],
    ["all", () => choices(false)], ["none", () => choices(true)],
  ]) byId(id).addEventListener("click", act);
  typed("words", filter);
  byId("only").addEventListener("change", filter);
  byId("colour").addEventListener("change", recolour);
  byId("written").addEventListener("change", () => map.queue());
  byId("filters").addEventListener("submit", (event) => {
    event.preventDefault();
    byId("canvas").focus();
  });
  scheme.addEventListener("change", (event) => {
    dark = event.matches;
    recolour();
  });
  on("groups", update);
  on("encoder", () => attempt(async () => {
    [map.x, map.y] = await places();
    update();
  }));
  on("picked", () => {
    if (byId("only").value === "picked") filter();
    map.queue();
  });
  update();
}

function choices(none) {
  off.clear();
  if (none) for (const { name } of state.project.coarse) off.add(name);
  for (const box of byId("coarse").querySelectorAll("input")) box.checked = !none;
  filter();
}

function update() {
  fillClasses();
  recolour();
  filter();
}

let began = false;

export const mapView = {
  async show() {
    if (began) return;
    began = true;
    if (!await attempt(() => start().then(() => true))) began = false;
  },
  key(event) {
    if (event.key === "l") map?.setTool(!map.tool);
    else if (event.key === "/") byId("words").focus();
    else return false;
    return true;
  },
};
