"use strict";
const inputs = [...document.querySelectorAll("input")];
const count = document.getElementById("count");
const key = "maskcon groups " + document.getElementById("groups").dataset.key;

// What was written stays when the page is closed, where the browser lets files remember.
function remembered() {
  try { return JSON.parse(localStorage.getItem(key)) || {}; } catch { return {}; }
}

function named() { return inputs.filter((input) => input.value.trim()); }

function changed() {
  count.textContent = `${named().length} of ${inputs.length} groups named`;
  const names = Object.fromEntries(inputs.map((input) => [input.dataset.group, input.value]));
  try { localStorage.setItem(key, JSON.stringify(names)); } catch { /* nothing is remembered */ }
}

function cell(text) { return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text; }

function download(lines, name) {
  const text = lines.map((line) => line.map(cell).join(",") + "\n").join("");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000); // some browsers begin to read it later
}

function save() {
  const lines = [["group", "name", "images", "typical"]];
  for (const input of named()) {
    const { group, images, typical } = input.dataset;
    lines.push([group, input.value.trim(), images, typical]);
  }
  download(lines, "names.csv");
}

const before = remembered();
inputs.forEach((input, i) => {
  if (before[input.dataset.group] && !input.value) input.value = before[input.dataset.group];
  input.placeholder = input.dataset.group;
  input.addEventListener("input", changed);
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    inputs[(i + 1) % inputs.length].focus();
  });
});
document.getElementById("save").addEventListener("click", save);
changed();

// Questions: one at a time; nothing is sent anywhere, the answers are a table to download.
const asking = document.getElementById("questions");
if (asking) {
  const questions = [...asking.querySelectorAll(".question")];
  const told = [];
  const show = () => {
    questions.forEach((question, i) => { question.hidden = i !== told.length; });
    const open = told.length < questions.length;
    document.getElementById("asked").textContent = open
      ? `Question ${told.length + 1} of ${questions.length}.` : "All are answered.";
    for (const button of asking.querySelectorAll("[data-say]")) {
      button.disabled = button.dataset.say === "back" ? !told.length : !open;
    }
  };
  const say = (verdict) => {
    if (verdict === "back") told.pop();
    else if (told.length < questions.length) {
      const { left, right } = questions[told.length].dataset;
      told.push([left, right, verdict]);
    }
    show();
  };
  asking.addEventListener("click", (event) => {
    const button = event.target.closest("[data-say]");
    if (button) say(button.dataset.say);
  });
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("input") || event.ctrlKey || event.metaKey || event.altKey) return;
    const verdict = { s: "same", d: "different", u: "unsure", b: "back" }[event.key.toLowerCase()];
    if (verdict) say(verdict);
  });
  document.getElementById("answers").addEventListener("click", () => {
    download([["left", "right", "answer"], ...JSON.parse(asking.dataset.before), ...told], "answers.csv");
  });
  show();
}
