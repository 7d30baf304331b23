// The page: which view is open, the keys, and what stands around the views.

/* global byId, element */
import { actionKey, chooseCoarse, chooseGroup, markOutlier, moveToNew, showSimilar } from "./actions.js";
import { get } from "./api.js";
import { groupsView } from "./cards.js";
import { startChooser } from "./chooser.js";
import { exportView } from "./exporting.js";
import { groupView } from "./group.js";
import { historyView } from "./history.js";
import { learnView } from "./learn.js";
import { duplicatesView, outliersView } from "./lists.js";
import { mapView } from "./mapview.js";
import { questionsView } from "./questions.js";
import { searchView } from "./search.js";
import { startSide } from "./side.js";
import { follow, isNamed, on, plural, refresh, state, targets, turn, unpick } from "./store.js";
import { PICTURES } from "./tiles.js";
import { startViewer } from "./viewer.js";

const VIEWS = {
  map: mapView, groups: groupsView, questions: questionsView, search: searchView, outliers: outliersView,
  duplicates: duplicatesView, learn: learnView, history: historyView, export: exportView, group: groupView,
};
const ORDER = Object.keys(VIEWS).slice(0, 9); // with the keys 1 to 9

/** The view that the address names, and what it says of it. */
function place() {
  const [name, value = ""] = location.hash.slice(1).split("=");
  return VIEWS[name] ? [name, decodeURIComponent(value)] : ["map", ""];
}

/** A view is open, and the keys go on in it. */
function turned() {
  route();
  byId("viewer").close(); // its keys lead to views as well
  const map = byId("main").dataset.view === "map";
  byId(map ? "canvas" : "main").focus({ preventScroll: true });
}

function route() {
  const [name, value] = place();
  for (const one of Object.keys(VIEWS)) byId(`view-${one}`).hidden = one !== name;
  for (const link of byId("views").children) {
    const here = link.hash === `#${name}` || (name === "group" && link.hash === "#groups");
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
    if (here) link.scrollIntoView({ block: "nearest", inline: "nearest" });
  }
  byId("main").dataset.view = name;
  document.title = `${byId(`title-${name}`)?.textContent || name} · ${state.project.name}`;
  byId("main").scrollTop = 0;
  VIEWS[name].show(value);
}

/** A person who has said nothing yet begins with the questions, where there are any. */
async function begin() {
  const { revision, read_only: readOnly } = state.project;
  if (location.hash || revision || readOnly) return;
  if ((await get("question")).question) history.replaceState(null, "", "#questions");
}

function paintTop() {
  const { project, groups } = state;
  byId("name").textContent = project.name;
  const named = groups.filter(isNamed).length;
  byId("facts").textContent =
    `${plural(project.pictures, "picture")} · ${plural(groups.length, "group")} · ${named} named${project.read_only ? " · read only" : ""}`;
  document.documentElement.classList.toggle("read-only", Boolean(project.read_only));
}

function paintBar() {
  const count = state.picked.size;
  byId("bar").hidden = count === 0;
  byId("picked").textContent = `${plural(count, "picture")} picked`;
  document.documentElement.classList.toggle("picking", count > 0);
}

const undo = () => turn("undo", "Undone");
const redo = () => turn("redo", "Done again");
const DO = {
  move: chooseGroup, new: (ids) => moveToNew(ids), outlier: markOutlier, coarse: chooseCoarse,
  similar: showSimilar, clear: unpick,
};

function startButtons() {
  byId("undo").addEventListener("click", undo);
  byId("redo").addEventListener("click", redo);
  byId("toast").lastElementChild.addEventListener("click", undo);
  byId("help-open").addEventListener("click", () => byId("help").showModal());
  byId("skip").addEventListener("click", (event) => {
    event.preventDefault(); // its address would be one of a view
    byId("main").focus();
  });
  byId("bar").addEventListener("click", (event) => {
    const button = event.target.closest("[data-do]");
    if (button) DO[button.dataset.do](targets());
  });
  byId("picked").addEventListener("dragstart", (event) => {
    event.dataTransfer.setData(PICTURES, JSON.stringify([...state.picked]));
  });
}

/** One key for the whole page, where no field and no open list of choices wants it. */
function key(event) {
  if (event.defaultPrevented || byId("chooser").open || byId("help").open) return;
  if (event.target.matches("input:not([type=checkbox], [type=file]), select")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (event.ctrlKey || event.metaKey || event.altKey) {
    if (name !== "z" || event.altKey || state.project.read_only) return;
    if (event.shiftKey) redo();
    else undo();
    event.preventDefault();
    return;
  }
  if (global(name, event)) event.preventDefault();
}

function global(name, event) {
  const large = byId("viewer").open;
  if (actionKey(name)) return true;
  if (name === "z" && !state.project.read_only) {
    if (event.shiftKey) redo();
    else undo();
  } else if (large) return false; // Escape closes it, and it knows its own keys
  else if (VIEWS[place()[0]].key?.({ key: name })) return true;
  else if (name === "Escape") unpick();
  else if (name === "?") byId("help").showModal();
  else if (ORDER[Number(name) - 1]) location.hash = `#${ORDER[Number(name) - 1]}`;
  else if (name === "ArrowLeft" || name === "ArrowRight") return enter(event.target);
  else return false;
  return true;
}

/** From the view itself to the first of its pictures. Returns whether there is one. */
function enter(from) {
  if (from !== document.body && from !== byId("main")) return false;
  const tiles = [...byId("main").querySelectorAll(".tile[tabindex='0']")];
  const first = tiles.find((tile) => tile.offsetParent);
  first?.focus();
  return Boolean(first);
}

async function start() {
  startChooser();
  startViewer();
  startButtons();
  on("groups", paintTop);
  on("picked", paintBar);
  startSide();
  for (const view of Object.values(VIEWS)) view.start?.();
  try {
    await refresh();
    await begin();
  } catch (error) {
    byId("loading").replaceChildren(element("span", { className: "warning", textContent: error.message }));
    return;
  }
  byId("loading").hidden = true;
  document.addEventListener("keydown", key);
  window.addEventListener("hashchange", turned);
  route();
  document.documentElement.dataset.ready = "yes";
  follow();
}

start();
