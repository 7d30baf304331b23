// All groups, a card each: their typical pictures, a field for the name, and how they join.

/* global byId, element, named */
import { get } from "./api.js";
import { merge, nameGroup, split } from "./actions.js";
import { takesDrops } from "./dropping.js";
import { follow } from "./keyed.js";
import { byClass } from "./side.js";
import { attempt, edit, groupOf, isNamed, now, on, plural, state, titleOf } from "./store.js";
import { Tiles } from "./tiles.js";

const TYPICAL = 10; // pictures on a card
const chosen = new Set(); // groups to merge
const strips = new WeakMap(); // card -> its tiles
const current = (id) => state.groups.find((group) => group.id === id);

/** A field that names a group; Enter goes on to the next field of its kind on the page. */
export function nameField(group, following) {
  const input = element("input", { type: "text", className: "name-field", autocomplete: "off", spellcheck: false,
    placeholder: "name", maxLength: 200, readOnly: state.project.read_only });
  input.setAttribute("aria-label", `Name of ${group.id}`);
  input.dataset.name = group.id;
  const commit = () => {
    const found = now(group);
    const name = input.value.trim();
    if (name !== (isNamed(found) ? found.name : "")) nameGroup(found, name);
  };
  input.addEventListener("change", commit);
  input.addEventListener("keydown", (event) => {
    if (event.key === "Escape") updateNameField(input, current(group.id), true);
    if (event.key !== "Enter") return;
    event.preventDefault();
    const fields = [...document.querySelectorAll(".name-field")].filter((field) => field.offsetParent);
    const next = fields[fields.indexOf(input) + 1];
    if (next) next.focus(); // the change is committed as the focus leaves
    else if (following) following();
    else input.blur();
  });
  return input;
}

export function updateNameField(input, group, force = false) {
  if (group && (force || document.activeElement !== input)) input.value = isNamed(group) ? group.name : "";
}

export function facts(group) {
  const outliers = group.outliers ? ` · ${plural(group.outliers, "outlier")}` : "";
  return `${group.id} · ${plural(group.count, "picture")}${outliers}`;
}

function makeCard(group) {
  const tick = element("input", { type: "checkbox", className: "tick edits", title: "Choose it to be merged" });
  tick.setAttribute("aria-label", `Merge ${group.id}`);
  tick.addEventListener("change", () => {
    if (tick.checked) chosen.add(group.id);
    else chosen.delete(group.id);
    paintMerging();
  });
  const open = element("a", { href: `#group=${encodeURIComponent(group.id)}`, textContent: "Open" });
  open.setAttribute("aria-label", `Open ${group.id}`);
  const parts = element("button", { type: "button", className: "edits", textContent: "Split" });
  parts.setAttribute("aria-label", `Split ${group.id}`);
  parts.addEventListener("click", () => split(current(group.id)));
  const tiles = new Tiles(`Typical pictures of ${group.id}`, { size: "small" });
  const card = element("article", { className: "card" },
    element("div", { className: "head" }, tick, nameField(group), element("span", { className: "note" }), open, parts), tiles.box);
  card.dataset.group = group.id;
  strips.set(card, tiles);
  return card;
}

function updateCard(card, group) {
  updateNameField(card.querySelector(".name-field"), group);
  card.querySelector(".note").textContent = facts(group);
  card.querySelector(".tick").checked = chosen.has(group.id);
  strips.get(card).set(group.typical.slice(0, TYPICAL));
}

const GRANULARITY = ["coarser", "usual", "finer"];

function makeClass({ name }, place) {
  const grain = element("select", { className: "edits" },
    ...GRANULARITY.map((value) => element("option", { value, textContent: value === "usual" ? "usual groups" : `${value} groups` })));
  grain.value = "usual";
  grain.setAttribute("aria-label", `Granularity of ${name}`);
  grain.addEventListener("change", () =>
    edit(() => ({ kind: "granularity", coarse: name, value: grain.value }), `${name}: ${grain.value} groups`));
  const merging = element("button", { type: "button", className: "merging edits", hidden: true });
  merging.addEventListener("click", async () => {
    const groups = chosenOf(name);
    if (await merge(groups)) groups.forEach((group) => chosen.delete(group.id));
    paintMerging();
  });
  const tree = element("details", { className: "tree" }, element("summary", { textContent: "How they join" }), element("ul"));
  tree.addEventListener("toggle", () => { if (tree.open) fillTree(tree, name); });
  const section = element("section", { className: "class", id: `class-${place}` },
    element("div", { className: "head" }, element("h3", {}, named(name)), element("span", { className: "note" }), grain, merging),
    tree, element("div", { className: "cards" }));
  return section;
}

const chosenOf = (coarse) => state.groups.filter((group) => group.coarse === coarse && chosen.has(group.id));

function updateClass(section, { name, groups }) {
  const count = groups.reduce((sum, group) => sum + group.count, 0);
  const done = groups.filter(isNamed).length;
  section.querySelector(".note").textContent =
    `${plural(count, "picture")} · ${plural(groups.length, "group")} · ${done} named`;
  paintGranularity(section.querySelector("select"), name);
  const tree = section.querySelector(".tree");
  tree.hidden = groups.length < 2;
  if (tree.open) fillTree(tree, name);
  follow(section.querySelector(".cards"), groups, (group) => group.id, makeCard, updateCard);
}

/** What the class is cut by; a number, which the command line can give, is shown as one more choice. */
function paintGranularity(grain, name) {
  const value = String(state.project.coarse.find((one) => one.name === name)?.granularity ?? "usual");
  if (![...grain.options].some((option) => option.value === value)) {
    grain.append(element("option", { value, textContent: `${value} groups` }));
  }
  grain.value = value;
}

function paintMerging() {
  for (const section of byId("cards").children) {
    const button = section.querySelector(".merging");
    const groups = chosenOf(section.dataset.key);
    button.hidden = groups.length < 2;
    button.textContent = `Merge ${groups.length} groups`;
  }
}

// The tree of a class: its groups are leaves, and each node above them can be made one group.

async function fillTree(tree, coarse) {
  const root = await attempt(() => get("tree", { coarse }));
  if (root) tree.querySelector("ul").replaceChildren(branch(root));
}

const beneath = (node) => (node.group ? [node.group] : (node.children ?? []).flatMap(beneath));

function branch(node) {
  const group = current(node.group);
  if (group || !node.children) {
    const link = element("a", { href: group ? `#group=${encodeURIComponent(group.id)}` : "#groups" },
      named(group ? titleOf(group) : "a part"), element("small", { textContent: plural(node.count, "picture") }));
    return element("li", {}, link);
  }
  const groups = [...new Set(beneath(node))].map(current).filter(Boolean);
  const sure = node.different === undefined || node.different === null
    ? "" : ` · different kinds: ${Math.round(100 * node.different)} %`;
  const join = element("button", { type: "button", className: "edits", textContent: "Merge", disabled: groups.length < 2 });
  join.addEventListener("click", (event) => {
    event.preventDefault();
    merge(groups);
  });
  const box = element("details", { open: true },
    element("summary", {}, element("span", { textContent: `${plural(node.count, "picture")} in ${plural(groups.length, "group")}${sure} ` }), join),
    element("ul", {}, ...node.children.map(branch)));
  return element("li", {}, box);
}

/** What is typed in the field that has the focus, with a picture of its group. */
function typing() {
  const field = document.activeElement;
  const card = field?.closest?.(".card");
  if (!card || !field.matches(".name-field")) return null;
  return { field, value: field.value, picture: strips.get(card).ids[0] };
}

/** Go on typing where the group is now, should it have been cut anew. */
function typeOn(before) {
  if (!before || before.field.isConnected) return;
  const id = groupOf(before.picture)?.id;
  const field = [...byId("cards").querySelectorAll(".name-field")].find((one) => one.dataset.name === id);
  if (!field) return;
  if (before.value) field.value = before.value;
  field.focus();
}

function paint() {
  if (byId("view-groups").hidden) return;
  const before = typing();
  const classes = byClass();
  for (const id of chosen) if (!current(id)) chosen.delete(id);
  const place = new Map(classes.map(({ name }, i) => [name, i]));
  follow(byId("cards"), classes, ({ name }) => name, (one) => makeClass(one, place.get(one.name)), updateClass);
  const jumps = byId("classes");
  jumps.hidden = classes.length < 2;
  follow(jumps, classes, ({ name }) => name,
    ({ name }) => {
      const jump = element("button", { type: "button" }, named(name));
      jump.addEventListener("click", () => {
        [...byId("cards").children].find((one) => one.dataset.key === name)?.scrollIntoView();
      });
      return jump;
    }, () => {});
  paintMerging();
  typeOn(before);
}

export const groupsView = {
  start() {
    takesDrops(byId("cards"));
    on("groups", paint);
  },
  show: paint,
};
