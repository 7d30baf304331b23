// What can be done with pictures and with groups, from wherever on the page.

import { choose } from "./chooser.js";
import { edit, groupOf, isNamed, now, plural, say, state, targets, titleOf, unpick } from "./store.js";

const pictures = (ids) => plural(ids.length, "picture");

/** The class that most of these pictures are of. */
function classOf(ids) {
  const count = new Map();
  for (const id of ids) {
    const coarse = groupOf(id)?.coarse;
    count.set(coarse, (count.get(coarse) ?? 0) + 1);
  }
  return [...count].sort((a, b) => b[1] - a[1])[0]?.[0];
}

async function done(promise) {
  if (await promise) unpick();
}

export function moveTo(ids, group) {
  return done(edit(() => ({ kind: "move", pictures: ids, group: now(group).id }), `${pictures(ids)} moved to ${titleOf(group)}`));
}

/** Put pictures into a group of their own, perhaps with a name. */
export async function moveToNew(ids, name = "") {
  if (!ids.length) return;
  const answer = await edit(() => ({ kind: "move", pictures: ids, group: null }), `${pictures(ids)} moved to a new group`);
  if (!answer) return;
  unpick();
  const group = groupOf(ids[0]);
  if (name && group) await nameGroup(group, name);
}

export async function chooseGroup(ids) {
  if (!ids.length) return say("Pick pictures first: click them, or press Space.");
  const own = classOf(ids);
  const order = [...state.groups].sort((a, b) => (b.coarse === own) - (a.coarse === own));
  const chosen = await choose(`Move ${pictures(ids)} to`, (words) => {
    const wanted = words.toLowerCase();
    const found = order
      .filter((group) => `${titleOf(group)} ${group.id} ${group.coarse}`.toLowerCase().includes(wanted))
      .slice(0, 200)
      .map((group) => ({
        text: titleOf(group), hint: `${group.coarse} · ${group.count}`, value: { group },
      }));
    const same = state.groups.some((group) => titleOf(group).toLowerCase() === wanted);
    if (!same) found.push({ text: words ? `a new group, “${words}”` : "a new group", value: { name: words } });
    return found;
  });
  if (!chosen) return;
  if (chosen.group) await moveTo(ids, chosen.group);
  else await moveToNew(ids, chosen.name);
}

export function markOutlier(ids) {
  if (!ids.length) return;
  const set = !ids.every((id) => state.outliers.has(id));
  return done(edit(() => ({ kind: "outlier", pictures: ids, on: set }),
    set ? `${pictures(ids)} marked as outliers` : `${pictures(ids)} no outliers any more`));
}

export function relabel(ids, coarse) {
  return done(edit(() => ({ kind: "coarse", pictures: ids, coarse }), `${pictures(ids)} now of ${coarse}`));
}

export async function chooseCoarse(ids) {
  if (!ids.length) return say("Pick pictures first: click them, or press Space.");
  const chosen = await choose(`The right coarse class of ${pictures(ids)}`, (words) => state.project.coarse
    .filter((one) => one.name.toLowerCase().includes(words.toLowerCase()))
    .map((one) => ({ text: one.name, hint: one.count.toLocaleString("en"), value: one.name })));
  if (chosen) await relabel(ids, chosen);
}

export function nameGroup(group, name) {
  const words = name ? `${group.id} is now “${name}”` : `${group.id} has no name any more`;
  return edit(() => ({ kind: "name", group: now(group).id, name }), words);
}

export function merge(groups) {
  const title = titleOf(groups.find(isNamed) ?? groups[0]);
  return edit(() => ({ kind: "merge", groups: groups.map((group) => now(group).id) }),
    `${plural(groups.length, "group")} merged into ${title}`);
}

export function split(group) {
  return edit(() => ({ kind: "split", group: now(group).id }), `${titleOf(group)} was split`);
}

export function showSimilar(ids) {
  if (ids.length) location.hash = `#search=${ids[0]}`;
}

function openGroup(ids) {
  const group = groupOf(ids[0]);
  if (group) location.hash = `#group=${encodeURIComponent(group.id)}`;
}

/** The keys that act on what is picked, else on the picture in focus. Returns whether one did. */
export function actionKey(key) {
  const change = {
    m: () => chooseGroup(targets()), n: () => moveToNew(targets()),
    o: () => markOutlier(targets()), c: () => chooseCoarse(targets()),
  }[key];
  if (change && !state.project.read_only) change();
  else if (key === "f") showSimilar(targets());
  else if (key === "g") openGroup(targets());
  else return false;
  return true;
}
