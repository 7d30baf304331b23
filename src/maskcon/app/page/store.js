// What the page knows of the project, and how it changes: every edit goes to the server first.

/* global byId */
import { get, numbers, post } from "./api.js";

export const state = {
  project: null,
  groups: [], // as the server has them: id, coarse, name, count, outliers, typical
  members: new Int32Array(0), // index into groups of each picture; -1 is none
  outliers: new Map(), // picture -> {reason, nearer}
  revision: -1,
  picked: new Set(),
  focused: -1, // the picture that keys act on where none is picked
};

// "groups": groups, members or outliers changed; "picked": the picks did; "job": learning goes on;
// "encoder": another network is kept, so all pictures lie elsewhere on the map.
const happened = new EventTarget();
export const on = (name, act) => happened.addEventListener(name, act);
export const tell = (name) => happened.dispatchEvent(new Event(name));

export const groupOf = (picture) => state.groups[state.members[picture]] ?? null;
export const isNamed = (group) => group.named;
export const titleOf = (group) => (isNamed(group) ? group.name : group.id);
export const plural = (count, one, many = `${one}s`) =>
  `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

/** Say something to those who look, and to those who listen. */
export function say(words, undoable = false) {
  byId("live").textContent = words;
  const toast = byId("toast");
  toast.firstElementChild.textContent = words;
  toast.lastElementChild.hidden = !undoable;
  toast.hidden = false;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => { toast.hidden = true; }, undoable ? 8000 : 6000);
}

/** Do something; what goes wrong is said. Returns what it gave, or null. */
export async function attempt(act) {
  try {
    return await act();
  } catch (error) {
    say(error.message);
    return null;
  }
}

let running = null;
let again = false;

/** Fetch the groups as they are now; several calls at a time become one more. */
export function refresh() {
  if (running) {
    again = true;
    return running;
  }
  running = (async () => {
    let moved = false;
    do {
      again = false;
      const [project, groups, members, outliers] = await Promise.all([
        get("project"), get("groups"), numbers("members", Int32Array), get("outliers"),
      ]);
      moved ||= Boolean(state.project) && state.project.encoder !== project.encoder;
      state.project = project;
      state.groups = groups.groups;
      state.revision = groups.revision;
      state.members = members;
      state.outliers = new Map(outliers.outliers.map((one) => [one.picture, one]));
      if (project.revision > groups.revision) again = true; // somebody was faster
    } while (again);
    tell("groups");
    if (moved) tell("encoder");
  })().finally(() => { running = null; });
  return running;
}

let last = Promise.resolve();

/**
 * One edit, said when it is on the disk. Edits go one after the other, each made of the groups as
 * they are after the one before.
 * @param body() -> what is sent
 * @returns what the server answered, or null where it refused
 */
export function edit(body, words) {
  last = last.then(() => attempt(async () => {
    const answer = await post("edits", body());
    await refresh();
    say(words, true);
    return answer;
  }));
  return last;
}

/** A group as it is now: by its id, else, where it was cut anew, by its most typical picture. */
export function now(group) {
  return state.groups.find(({ id }) => id === group.id) ?? groupOf(group.typical[0]) ?? group;
}

/** Undo, redo, or take back one edit. */
export function turn(path, words) {
  return attempt(async () => {
    const answer = await post(path);
    await refresh();
    say(words);
    return answer;
  });
}

/** Follow what others do, in other windows and in the learning job, for as long as the page is open. */
export async function follow() {
  for (;;) {
    if (document.hidden) await once(document, "visibilitychange");
    try {
      const change = await get("changes", { after: state.revision });
      if (change.revision !== state.revision) await refresh();
      if (change.job) {
        tell("job");
        await pause(1000); // a job that runs answers at once
      }
    } catch (error) {
      if (error.status === 401 || error.status === 403) return say(error.message);
      await pause(3000);
    }
  }
}

const pause = (milliseconds) => new Promise((done) => { setTimeout(done, milliseconds); });
const once = (target, name) => new Promise((done) => {
  target.addEventListener(name, done, { once: true });
});

// Picks: the pictures that the next move is about, wherever on the page they were picked.

export function pick(pictures, value = true) {
  for (const picture of pictures) {
    if (value) state.picked.add(picture);
    else state.picked.delete(picture);
  }
  tell("picked");
}

export function toggle(picture) {
  pick([picture], !state.picked.has(picture));
}

export function unpick() {
  if (!state.picked.size) return;
  state.picked.clear();
  tell("picked");
}

/** The pictures that an action is about: those picked, else the one in focus. */
export function targets() {
  if (state.picked.size) return [...state.picked];
  return state.focused >= 0 ? [state.focused] : [];
}
