// Lists to work through: outliers with their reasons, and near duplicates.

/* global byId, element, named */
import { get } from "./api.js";
import { markOutlier, relabel } from "./actions.js";
import { follow } from "./keyed.js";
import { attempt, groupOf, on, pick, plural, state, titleOf } from "./store.js";
import { Tiles } from "./tiles.js";
import { matching, typed } from "./words.js";

const NONE = "No picture of the list has these words.";
const AT_ONCE = 100; // rows; more are a button away
const strips = new WeakMap();

function row(label, words, ...buttons) {
  const tiles = new Tiles(label, { size: "small" });
  const made = element("li", { className: "row-item" }, tiles.box,
    element("div", { className: "lines" }, ...words), element("p", { className: "buttons edits" }, ...buttons));
  strips.set(made, tiles);
  return made;
}

function button(words, act) {
  const made = element("button", { type: "button", textContent: words });
  made.addEventListener("click", act);
  return made;
}

/** A list of which so much is shown, and a button for more. */
class Long {
  constructor(box, make, update) {
    Object.assign(this, { box, make, update, shown: AT_ONCE });
    this.more = button("Show more", () => {
      this.shown += AT_ONCE;
      this.set(this.items);
    });
    box.after(this.more);
  }

  set(items) {
    this.items = items;
    follow(this.box, items.slice(0, this.shown), ({ key }) => key, this.make, this.update);
    this.more.hidden = items.length <= this.shown;
  }
}

let outlierList = null;
let duplicateList = null;

function outlierRow({ picture, nearer }) {
  const keep = button("It belongs here", () => markOutlier([picture]));
  const there = nearer ? [button(`It is of ${nearer}`, () => relabel([picture], nearer))] : [];
  const made = row(`outlier ${picture + 1}`, [], keep, ...there);
  strips.get(made).set([picture]);
  return made;
}

function outlierWords(made, { picture, reason }) {
  const group = groupOf(picture);
  made.querySelector(".lines").replaceChildren(element("b", {}, named(group ? titleOf(group) : "no group")),
    element("span", { textContent: reason || "marked as an outlier" }));
}

function paintOutliers() {
  outlierList ??= new Long(byId("outlier-list"), outlierRow, outlierWords);
  const has = matching("outlier-words");
  const found = [...state.outliers.values()].filter(({ picture }) => has(picture));
  const items = found.map((one) => ({ ...one, key: `${one.picture} ${one.nearer ?? ""}` }));
  outlierList.set(items);
  if (!items.length) byId("outlier-list").append(nothing(state.outliers.size ? NONE : "No picture stands out."));
}

const nothing = (words) => element("li", { className: "done", textContent: words });

function duplicateRow({ ids }) {
  const made = row(`${ids.length} pictures that hardly differ`, [],
    button(`Pick all but the first`, () => pick(ids.slice(1))), button("Pick all", () => pick(ids)));
  strips.get(made).set(ids);
  return made;
}

function duplicateWords(made, { ids }) {
  const groups = new Set(ids.map((id) => groupOf(id)).filter(Boolean));
  made.querySelector(".lines").replaceChildren(element("b", { textContent: plural(ids.length, "picture") }),
    element("span", { textContent: [...groups].map(titleOf).join(", ") }),
    ...(groups.size > 1 ? [element("span", { className: "warning", textContent: "in different groups" })] : []));
}

let sets = [];

function paintDuplicates() {
  duplicateList ??= new Long(byId("duplicate-list"), duplicateRow, duplicateWords);
  const has = matching("duplicate-words");
  const found = sets.filter((ids) => ids.some(has));
  duplicateList.set(found.map((ids) => ({ ids, key: ids.join(" ") })));
  if (found.length) return;
  byId("duplicate-list").append(nothing(sets.length ? NONE : "No two pictures are nearly the same."));
}

export const outliersView = {
  start() {
    on("groups", () => { if (!byId("view-outliers").hidden) paintOutliers(); });
    typed("outlier-words", paintOutliers);
  },
  show: paintOutliers,
};

export const duplicatesView = {
  start() {
    on("groups", () => { if (!byId("view-duplicates").hidden) paintDuplicates(); });
    typed("duplicate-words", paintDuplicates);
  },
  async show() {
    const answer = await attempt(() => get("duplicates"));
    if (!answer) return;
    sets = answer.sets;
    paintDuplicates();
  },
};
