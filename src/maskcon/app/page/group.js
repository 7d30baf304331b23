// One group: all of its pictures, the most typical first.

/* global byId, element, named */
import { get } from "./api.js";
import { merge, split } from "./actions.js";
import { facts, nameField, updateNameField } from "./cards.js";
import { choose } from "./chooser.js";
import { attempt, on, pick, state, titleOf } from "./store.js";
import { Tiles } from "./tiles.js";

const AT_ONCE = 120; // pictures that are asked for

let id = null;
let tiles = null;
let end = false;
let busy = false;
const watcher = new IntersectionObserver((entries) => {
  if (entries.some((entry) => entry.isIntersecting)) more();
}, { rootMargin: "600px" });

const current = () => state.groups.find((group) => group.id === id);

async function more() {
  if (end || busy || !tiles) return;
  busy = true;
  const [wanted, into] = [id, tiles];
  const page = await attempt(() => get("group", { id: wanted, offset: into.ids.length, limit: AT_ONCE }));
  busy = false;
  if (!page || into !== tiles || wanted !== id) return;
  end = page.pictures.length < AT_ONCE;
  into.add(page.pictures);
  if (!end) { // asks again, should the last row still be in sight
    watcher.unobserve(byId("group-end"));
    watcher.observe(byId("group-end"));
  }
}

/** As many pictures as are shown, as they are now; the focus stays where it was. */
async function renew() {
  const wanted = id;
  const count = Math.max(AT_ONCE, tiles.ids.length);
  const page = await attempt(() => get("group", { id: wanted, offset: 0, limit: count }));
  if (!page || wanted !== id) return;
  end = page.pictures.length < count;
  const [at, inside] = [tiles.at, tiles.box.contains(document.activeElement)];
  tiles.at = Math.max(0, Math.min(at, page.pictures.length - 1));
  tiles.set(page.pictures);
  if (inside) tiles.go(tiles.at);
}

function head(group) {
  const others = () => state.groups.filter((other) => other.coarse === group.coarse && other.id !== group.id);
  const into = element("button", { type: "button", className: "edits", textContent: "Merge with…" });
  into.addEventListener("click", async () => {
    const other = await choose(`Merge ${titleOf(group)} with`, (words) => others()
      .filter((one) => `${titleOf(one)} ${one.id}`.toLowerCase().includes(words.toLowerCase()))
      .map((one) => ({ text: titleOf(one), hint: String(one.count), value: one })));
    if (other && await merge([current() ?? group, other]) && !current()) location.hash = `#group=${encodeURIComponent(other.id)}`;
  });
  const parts = element("button", { type: "button", className: "edits", textContent: "Split" });
  parts.addEventListener("click", () => split(current()));
  const every = element("button", { type: "button", textContent: "Pick all" });
  every.addEventListener("click", async () => {
    const page = await attempt(() => get("group", { id, offset: 0, limit: current().count }));
    if (page) pick(page.pictures);
  });
  const size = element("select", {},
    ...["small", "middle", "large"].map((value) => element("option", { value, textContent: `${value} pictures` })));
  size.value = "middle";
  size.setAttribute("aria-label", "Size of the pictures");
  size.addEventListener("change", () => {
    tiles.size = size.value;
    tiles.box.dataset.size = size.value;
    const ids = [...tiles.ids];
    tiles.set([]); // larger pictures are other files
    tiles.set(ids);
  });
  const title = element("h2", { id: "title-group" }, named(titleOf(group)));
  byId("group-head").replaceChildren(title, nameField(group), element("span", { className: "note" }), into, parts, every, size);
}

async function show(value) {
  id = value;
  const group = current();
  if (!group) return gone();
  end = busy = false;
  head(group);
  tiles = new Tiles(`Pictures of ${group.id}`);
  byId("group-pictures").replaceChildren(tiles.box, element("div", { id: "group-end" }));
  update();
  await more();
}

function gone() {
  byId("group-head").replaceChildren(element("h2", { id: "title-group", textContent: id ?? "" }),
    element("p", { textContent: "There is no such group any more: it was merged, split, or emptied." }));
  byId("group-pictures").replaceChildren();
}

function update() {
  const group = current();
  if (!group) return gone();
  byId("title-group").replaceChildren(named(titleOf(group)));
  byId("group-head").querySelector(".note").textContent = `${group.coarse} · ${facts(group)}`;
  updateNameField(byId("group-head").querySelector("input"), group);
}

export const groupView = {
  start() {
    on("groups", () => {
      if (byId("view-group").hidden || !id) return;
      if (!byId("group-head").querySelector("input")) show(id);
      else {
        update();
        if (current()) renew();
      }
    });
  },
  show,
};
