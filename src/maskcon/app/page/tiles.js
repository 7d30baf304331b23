// Pictures in rows, to look through and to pick from: by mouse, by finger, or by the keys alone.

/* global element */
import { thumbOf } from "./api.js";
import { groupOf, pick, state, titleOf, toggle, on } from "./store.js";
import { openViewer } from "./viewer.js";

export const PICTURES = "application/x-maskcon-pictures"; // what is dragged
const tilesOf = new WeakMap(); // of boxes; those that have left the page are forgotten

/** A listbox of pictures. */
export class Tiles {
  /**
   * @param label of the list, for those who do not see it
   * @param options size: "small", "middle" or "large"; caption(id) -> text under the picture
   */
  constructor(label, { size = "middle", caption = null } = {}) {
    Object.assign(this, { size, caption, ids: [], at: 0, last: -1 });
    this.box = element("div", { className: "tiles" });
    this.box.dataset.size = size;
    this.box.setAttribute("role", "listbox");
    this.box.setAttribute("aria-multiselectable", "true");
    this.box.setAttribute("aria-label", label);
    this.box.addEventListener("click", (event) => this.clicked(event));
    this.box.addEventListener("dblclick", (event) => this.open(this.indexOf(event.target)));
    this.box.addEventListener("keydown", (event) => this.key(event));
    this.box.addEventListener("focusin", (event) => this.entered(event.target));
    this.box.addEventListener("focusout", () => { state.focused = -1; });
    this.box.addEventListener("dragstart", (event) => this.dragged(event));
    tilesOf.set(this.box, this);
  }

  /** Show these pictures; tiles that are there already stay, with the focus. */
  set(ids) {
    this.ids = [];
    const old = new Map([...this.box.children].map((tile) => [Number(tile.dataset.id), tile]));
    this.box.replaceChildren();
    this.add(ids, old);
  }

  add(ids, old = new Map()) {
    const first = this.ids.length;
    this.ids.push(...ids);
    this.box.append(...ids.map((id) => old.get(id) ?? this.tile(id)));
    [...this.box.children].slice(first).forEach((tile, i) => this.mark(tile, first + i));
  }

  tile(id) {
    const image = element("img", {
      src: thumbOf(id, this.size === "large" ? 256 : 128), alt: "", loading: "lazy", decoding: "async", draggable: false,
    });
    image.addEventListener("error", () => tile.classList.add("gone"));
    const large = element("span", { className: "larger", textContent: "⤢", title: "Large (Enter)" });
    large.setAttribute("aria-hidden", "true");
    const tile = element("div", { className: "tile", draggable: true }, image, large);
    tile.dataset.id = id;
    tile.setAttribute("role", "option");
    return tile;
  }

  mark(tile, index) {
    const id = Number(tile.dataset.id);
    const group = groupOf(id);
    const outlier = state.outliers.has(id);
    const words = this.caption?.(id);
    tile.tabIndex = index === this.at ? 0 : -1;
    tile.setAttribute("aria-selected", String(state.picked.has(id)));
    tile.setAttribute("aria-label",
      `picture ${id + 1}${group ? `, ${titleOf(group)}` : ""}${outlier ? ", outlier" : ""}${words ? `, ${words}` : ""}`);
    tile.classList.toggle("outlying", outlier);
    if (!this.caption) return;
    if (!tile.querySelector(".caption")) tile.append(element("span", { className: "caption" }));
    tile.querySelector(".caption").textContent = words;
  }

  /** After picks or groups changed. */
  remark() {
    [...this.box.children].forEach((tile, index) => this.mark(tile, index));
  }

  indexOf(target) {
    return [...this.box.children].indexOf(target.closest(".tile"));
  }

  clicked(event) {
    const index = this.indexOf(event.target);
    if (index < 0) return;
    this.go(index);
    if (event.target.closest(".larger")) this.open(index);
    else if (event.shiftKey && this.last >= 0) this.range(this.last, index);
    else toggle(this.ids[index]);
    this.last = index;
  }

  range(from, to) {
    pick(this.ids.slice(Math.min(from, to), Math.max(from, to) + 1));
  }

  open(index) {
    if (index >= 0) openViewer(this.ids, index);
  }

  go(index) {
    const tile = this.box.children[index];
    if (!tile) return;
    const before = this.box.children[this.at];
    if (before) before.tabIndex = -1;
    this.at = index;
    tile.tabIndex = 0;
    tile.focus();
  }

  entered(target) {
    const index = this.indexOf(target);
    if (index < 0) return;
    if (index !== this.at) this.go(index);
    state.focused = this.ids[index];
  }

  /** How far the arrows lead: as many tiles as stand in one row. */
  columns() {
    const [first, ...rest] = this.box.children;
    const below = rest.findIndex((tile) => tile.offsetTop > first.offsetTop);
    return below < 0 ? this.ids.length : below + 1;
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const steps = {
      ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns(), ArrowDown: this.columns(),
      Home: -this.at, End: this.ids.length - 1 - this.at,
    };
    const step = steps[event.key];
    if (step !== undefined) {
      const to = this.at + step;
      if (to < 0 || to >= this.ids.length) return;
      if (event.shiftKey) this.range(this.at, to);
      this.go(to);
    } else if (event.key === " ") {
      toggle(this.ids[this.at]);
      this.last = this.at;
    } else if (event.key === "Enter") this.open(this.at);
    else if (event.key === "a") pick(this.ids);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  dragged(event) {
    const index = this.indexOf(event.target);
    if (index < 0) return;
    const id = this.ids[index];
    if (!state.picked.has(id)) {
      state.picked.clear();
      pick([id]);
    }
    event.dataTransfer.setData(PICTURES, JSON.stringify([...state.picked]));
    event.dataTransfer.effectAllowed = "move";
  }
}

for (const name of ["picked", "groups"]) {
  on(name, () => {
    for (const box of document.querySelectorAll(".tiles")) tilesOf.get(box).remark();
  });
}
