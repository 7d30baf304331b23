// Learning: one button, how far it is, before and after, and whether to keep it.

/* global byId, element */
import { get, post } from "./api.js";
import { attempt, isNamed, on, plural, refresh, say, state } from "./store.js";

let timer = 0;
let running = false; // when it was looked at last
let painted = ""; // what is on the page: the same is left alone, for whoever is about to press it
const STEPS = { train: "1 of 3, training", index: "2 of 3, looking at all pictures", group: "3 of 3, grouping" };

function button(words, act, primary = false) {
  const made = element("button", { type: "button", className: primary ? "edits primary" : "edits", textContent: words });
  made.addEventListener("click", act);
  return made;
}

const send = (path, words) => async () => {
  const answer = await attempt(() => post(path));
  if (!answer) return;
  if (words) {
    await attempt(refresh);
    say(words);
  }
  await paint();
};

/** The number of groups, or a share in per cent; a dash where there is none. */
function shown(name, value) {
  if (typeof value !== "number") return "–";
  return name === "groups" ? value.toLocaleString("en") : `${(100 * value).toFixed(1)} %`;
}

/** What it was and what it is, a row for each measure. */
function beside(before, after) {
  const rows = Object.keys({ ...before, ...after }).map((name) => element("tr", {},
    element("th", { scope: "row", textContent: name }),
    element("td", { textContent: shown(name, before?.[name]) }), element("td", { textContent: shown(name, after?.[name]) })));
  const head = ["", "before", "after"].map((text) => element("th", { scope: "col", textContent: text }));
  return element("div", { className: "scroll" }, element("table", {},
    element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows)));
}

function known() {
  const named = state.groups.filter(isNamed).length;
  return `${plural(named, "group")} of ${state.groups.length} named.`;
}

async function paint() {
  clearTimeout(timer);
  const job = await attempt(() => get("job"));
  if (!job) return;
  const box = byId("learning");
  const inside = box.contains(document.activeElement);
  const ended = running && job.state !== "running";
  running = job.state === "running";
  const now = JSON.stringify([job, known()]);
  const same = now === painted;
  painted = now;
  if (running) timer = setTimeout(paint, 1000);
  if (same) return;
  if (running) {
    const bar = box.querySelector("progress") ?? element("progress", { max: 1 });
    bar.value = job.fraction ?? 0;
    bar.setAttribute("aria-label", "Learning");
    box.replaceChildren(bar, element("p", { textContent: `Step ${STEPS[job.step]}` }),
      element("p", { className: "note", textContent: job.words }));
  } else if (job.state === "done") {
    box.replaceChildren(element("p", { textContent: job.words || "It has learned. Keep what it found?" }), beside(job.before, job.after),
      element("p", { className: "buttons" }, button("Keep", send("learn/keep", "Kept: the groups are those of the new network"), true),
        button("Discard", send("learn/discard", "Discarded: everything is as it was"))));
  } else {
    const failed = job.state === "failed" ? [element("p", { className: "warning", textContent: job.words })] : [];
    box.replaceChildren(...failed, element("p", { textContent: known() }), button("Learn", send("learn"), true));
  }
  if (inside) box.focus({ preventScroll: true }); // what had the focus is gone
  if (ended && job.words) say(job.state === "done" ? "It has learned: keep or discard it under Learn" : job.words);
}

export const learnView = {
  start() {
    on("groups", () => { if (!byId("view-learn").hidden) paint(); });
    on("job", paint); // its end is said wherever one is
  },
  show: paint,
};
