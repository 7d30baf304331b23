// Words that pictures are filtered by: part of a file's name, of its group's or its class's.

/* global byId */
import { get } from "./api.js";
import { attempt, state, titleOf } from "./store.js";

let names = null; // of all pictures, in small letters; fetched when somebody types

/** Whether each picture has the words of a field; all have where it is empty. */
export function matching(field) {
  const words = byId(field).value.trim().toLowerCase();
  if (!words) return () => true;
  const groups = state.groups.map((group) =>
    `${titleOf(group)}\n${group.id}\n${group.coarse}`.toLowerCase().includes(words));
  return (picture) => groups[state.members[picture]] || Boolean(names?.[picture]?.includes(words));
}

/** Do something whenever the words of a field change, the names being known. */
export function typed(field, act) {
  byId(field).addEventListener("input", async () => {
    if (!names) {
      const answer = await attempt(() => get("names"));
      names = answer && answer.names.map((name) => name.toLowerCase());
    }
    act();
  });
}
