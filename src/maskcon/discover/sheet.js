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

function save() {
  const lines = [["group", "name", "images", "typical"]];
  for (const input of named()) {
    const { group, images, typical } = input.dataset;
    lines.push([group, input.value.trim(), images, typical]);
  }
  const text = lines.map((line) => line.map(cell).join(",") + "\n").join("");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = "names.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000); // some browsers begin to read it later
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
