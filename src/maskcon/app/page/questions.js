// Questions: two rows of pictures, and whether they are of one kind.

/* global byId, element, named */
import { get, post } from "./api.js";
import { logRow } from "./history.js";
import { attempt, on, plural, refresh, state, turn } from "./store.js";
import { Tiles } from "./tiles.js";

let question = null;
let busy = false;
let before = 0; // groups before the last answer

async function ask() {
  const answer = await attempt(() => get("question"));
  if (answer) paint(answer);
}

function paint({ question: next, answered, worth }) {
  question = next;
  const groups = state.groups.length;
  const change = before && groups !== before ? ` (${groups > before ? "+" : "−"}${Math.abs(groups - before)})` : "";
  const left = next ? ` · about ${plural(worth, "more answer is", "more answers are")} worth giving` : "";
  byId("asking").textContent = `${plural(answered, "answer")} so far${left} · ${plural(groups, "group")} now${change}`;
  byId("verdicts").hidden = !next;
  byId("answers").hidden = !answered;
  const box = byId("question");
  if (!next) {
    box.replaceChildren(element("p", { className: "done" },
      answered ? "All that matters is answered. " : "There is nothing to ask about these pictures. ",
      element("a", { href: "#groups", textContent: "Name the groups" }), ", or ",
      element("a", { href: "#learn", textContent: "let it learn" }), "."));
    return;
  }
  const progress = element("progress", { max: Math.max(1, answered + worth), value: answered });
  progress.setAttribute("aria-label", "answers that are worth giving");
  const sides = [["One side", next.left], ["The other side", next.right]].map(([label, ids]) => {
    const tiles = new Tiles(label, { size: "large" });
    tiles.set(ids);
    return tiles.box;
  });
  const guess = next.different === undefined || next.different === null
    ? "" : ` · the guess so far: different kinds with ${Math.round(100 * next.different)} %`;
  box.replaceChildren(progress, element("p", { className: "note" }, "of ", named(next.coarse), guess), ...sides);
}

async function say(verdict) {
  if (!question || busy || state.project.read_only) return;
  busy = true;
  before = state.groups.length;
  const { left, right } = question;
  const body = { kind: "answer", left: left[0], right: right[0], verdict };
  const answer = await attempt(() => post("edits", body));
  if (answer) {
    await attempt(refresh);
    await ask();
    byId("live").textContent = `${verdict}. ${byId("asking").textContent}`;
  }
  busy = false;
}

async function answers() {
  if (!byId("answers").open) return;
  const log = await attempt(() => get("edits"));
  if (!log) return;
  const rows = log.edits.filter((edit) => edit.kind === "answer").sort((a, b) => b.id - a.id).map(logRow);
  byId("answers").querySelector("ol").replaceChildren(...rows);
}

async function takeBack() {
  const log = await attempt(() => get("edits"));
  const last = log?.edits.filter((edit) => edit.kind === "answer" && !edit.undone).sort((a, b) => b.id - a.id)[0];
  if (last) await turn(`edits/${last.id}/take-back`, "The last answer was taken back");
}

export const questionsView = {
  start() {
    for (const button of document.querySelectorAll("[data-say]")) {
      button.addEventListener("click", () => say(button.dataset.say));
    }
    byId("answers").addEventListener("toggle", answers);
    on("groups", () => {
      if (byId("view-questions").hidden) return;
      answers();
      if (!busy) ask();
    });
  },
  show: ask,
  key(event) {
    const verdict = { s: "same", d: "different", u: "unsure" }[event.key];
    if (verdict) say(verdict);
    else if (event.key === "b" && !state.project.read_only) takeBack();
    else return false;
    return true;
  },
};
