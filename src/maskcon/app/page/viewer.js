// One picture, large and uncropped, and what is known of it.

/* global byId, element, named */
import { get, pictureOf } from "./api.js";
import { groupOf, on, state, titleOf, toggle } from "./store.js";

let list = [];
let at = 0;

/** The facts of a picture as the server has them: name, coarse, group, outlier, reason, state. */
export const factsOf = (id) => get("picture", { id });

const STATES = {
  missing: "The file is not there any more.",
  changed: "The file was changed after it was looked at.",
};

/** Text about a picture: its class, its group, and what is wrong with it. */
export function described(facts) {
  const lines = [element("b", {}, named(facts.group ?? "no group")), element("span", {}, named(facts.coarse ?? "")),
    element("small", {}, named(facts.name))];
  if (facts.outlier) {
    lines.push(element("span", { className: "warning", textContent: facts.reason || "marked as an outlier" }));
  }
  if (STATES[facts.state]) lines.push(element("span", { className: "warning", textContent: STATES[facts.state] }));
  return lines;
}

export function openViewer(ids, index) {
  list = [...ids];
  at = index;
  const dialog = byId("viewer");
  if (!dialog.open) dialog.showModal();
  show();
}

async function show() {
  const id = list[at];
  const image = byId("viewer-image");
  image.src = pictureOf(id);
  image.alt = `picture ${id + 1}`;
  state.focused = id;
  byId("viewer-before").disabled = at === 0;
  byId("viewer-after").disabled = at === list.length - 1;
  marked();
  const facts = await factsOf(id).catch(() => null);
  if (!facts || list[at] !== id) return;
  const group = groupOf(id);
  image.alt = `${facts.name}, ${group ? titleOf(group) : facts.coarse}`;
  byId("viewer-facts").replaceChildren(...described({ ...facts, group: group && titleOf(group) }),
    element("small", { textContent: `${at + 1} of ${list.length}` }));
}

function marked() {
  byId("viewer-picked").hidden = !state.picked.has(list[at]);
}

function go(step) {
  if (at + step < 0 || at + step >= list.length) return;
  at += step;
  show();
}

export function startViewer() {
  const dialog = byId("viewer");
  byId("viewer-before").addEventListener("click", () => go(-1));
  byId("viewer-after").addEventListener("click", () => go(1));
  dialog.addEventListener("close", () => { state.focused = -1; });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") go(-1);
    else if (event.key === "ArrowRight") go(1);
    else if (event.key === " ") toggle(list[at]);
    else return;
    event.preventDefault();
  });
  on("picked", marked);
  on("groups", () => { if (dialog.open) show(); });
}
