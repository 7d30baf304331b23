// The history: every edit, and the way back.

/* global byId, element */
import { get } from "./api.js";
import { attempt, on, state, turn } from "./store.js";

const time = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

/** A row of the log; its button takes this one edit back. */
export function logRow(edit) {
  const when = new Date(edit.time);
  const back = element("button", { type: "button", className: "edits", textContent: "Take back" });
  back.setAttribute("aria-label", `Take back: ${edit.words}`);
  back.addEventListener("click", () => turn(`edits/${edit.id}/take-back`, `Taken back: ${edit.words}`));
  const row = element("li", { className: edit.undone ? "undone" : "" },
    element("time", { dateTime: when.toISOString(), textContent: time.format(when) }),
    element("span", { className: "words", textContent: edit.words + (edit.undone ? " (taken back)" : "") }));
  if (!edit.undone && !state.project.read_only) row.append(back);
  return row;
}

async function paint() {
  const log = await attempt(() => get("edits"));
  if (!log) return;
  const rows = [...log.edits].sort((a, b) => b.id - a.id).map(logRow);
  byId("log").replaceChildren(...(rows.length ? rows : [element("li", { className: "done", textContent: "Nothing was changed yet." })]));
}

export const historyView = {
  start() {
    on("groups", () => { if (!byId("view-history").hidden) paint(); });
  },
  show: paint,
};
