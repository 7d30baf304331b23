// The list of all groups beside the views: to open them, and to drop pictures on.

/* global byId, element, named */
import { thumbOf } from "./api.js";
import { takesDrops } from "./dropping.js";
import { follow } from "./keyed.js";
import { isNamed, on, plural, state, titleOf } from "./store.js";

/** The groups of each coarse class, in the project's order of classes. */
export function byClass() {
  const found = new Map(state.project.coarse.map(({ name }) => [name, []]));
  for (const group of state.groups) {
    if (!found.has(group.coarse)) found.set(group.coarse, []);
    found.get(group.coarse).push(group);
  }
  return [...found].filter(([, groups]) => groups.length).map(([name, groups]) => ({ name, groups }));
}

function makeClass({ name, groups }) {
  const box = element("details", { open: state.groups.length < 60 || groups.length < 2 },
    element("summary", {}, named(name), element("small")), element("div"));
  const fresh = element("a", { className: "row fresh edits", href: "#groups", textContent: "+ a new group" });
  fresh.dataset.group = "";
  fresh.title = "Drop pictures here";
  box.append(fresh);
  return box;
}

function updateClass(box, { groups }) {
  const done = groups.filter(isNamed).length;
  box.querySelector("summary small").textContent = `${done} of ${groups.length} named`;
  follow(box.querySelector("div"), groups, (group) => group.id, makeRow, updateRow);
}

function makeRow(group) {
  const image = element("img", { alt: "", width: 32, height: 32, loading: "lazy", draggable: false });
  const row = element("a", { className: "row", draggable: true, href: `#group=${encodeURIComponent(group.id)}` },
    image, element("span", { className: "title" }), element("small"));
  row.dataset.group = group.id;
  return row;
}

function updateRow(row, group) {
  const [image, title, count] = row.children;
  const first = group.typical[0];
  if (first !== undefined && image.dataset.id !== String(first)) {
    image.dataset.id = first;
    image.src = thumbOf(first, 64);
  }
  title.replaceChildren(named(titleOf(group)));
  row.classList.toggle("named", isNamed(group));
  count.textContent = group.count.toLocaleString("en");
  const drops = state.project.read_only ? "" : "; drop pictures here to move them";
  row.title = `${titleOf(group)}: ${plural(group.count, "picture")}${drops}`;
  if (location.hash === row.hash) row.setAttribute("aria-current", "page");
  else row.removeAttribute("aria-current");
}

export function startSide() {
  const side = byId("side");
  takesDrops(side);
  const paint = () => follow(side, byClass(), ({ name }) => name, makeClass, updateClass);
  on("groups", paint);
  window.addEventListener("hashchange", () => { if (state.project) paint(); });
}
