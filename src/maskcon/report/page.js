// What the map's points are, the panel beside it, its filters, and the small pictures everywhere.

const data = JSON.parse(document.getElementById("data").textContent);
const column = (text, kind) => new kind(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
const points = data.points;
const x = column(data.x, Uint16Array);
const y = column(data.y, Uint16Array);
const coarse = column(data.coarse, Uint32Array);
const label = column(data.label, Uint32Array);
const found = column(data.found, Uint8Array);
const neighbours = column(data.neighbours, Uint32Array);
const similarity = column(data.similarity, Int8Array);
const VERDICTS = ["right", "near", "wrong"];
const MARKS = ["✓", "~", "✗"];
const SHAPES = ["circle", "diamond", "cross"];
const MEANING = data.fine
  ? ["the same fine class", "the same coarse class only", "another coarse class"]
  : ["the same coarse class", "", "another coarse class"];
const PER_PAGE = 50;

const related = (index) => neighbours.subarray(index * data.k, (index + 1) * data.k);
const classOf = (index) => data.classNames[label[index]];
const coarseOf = (index) => data.coarseNames[coarse[index]];

function verdict(query, other) {
  if (label[query] === label[other]) return 0;
  return coarse[query] === coarse[other] ? 1 : 2;
}

// Pictures: each lies on one of the sheets.

let sheets = [];
let largeSheets = [];
const ratio = column(data.ratio, Float32Array); // width / height
const largeOf = new Map(data.large.map((index, place) => [index, place]));

/** A picture, whole and in its own shape, in the middle of a square: its place on a sheet says no shape. */
function paintPicture(context, index, px, py, side) {
  paintFrom(context, sheets, data.sheet, index, ratio[index], px, py, side);
}

function paintFrom(context, from, { side: own, cell, columns, rows }, number, shape, px, py, side) {
  const on = from[Math.floor(number / (columns * rows))];
  if (!on) return;
  const place = number % (columns * rows);
  const sx = (place % columns) * cell;
  const sy = Math.floor(place / columns) * cell;
  const wide = side * Math.min(1, shape);
  const high = side * Math.min(1, 1 / shape);
  context.drawImage(on, sx, sy, own, own, px + (side - wide) / 2, py + (side - high) / 2, wide, high);
}

function paintCanvas(canvas, index) {
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.clearRect(0, 0, canvas.width, canvas.height);
  paintPicture(context, index, 0, 0, canvas.width);
  canvas.dataset.painted = index;
}

function pictureOf(index, size) {
  const made = element("canvas", { width: size, height: size });
  made.setAttribute("role", "img");
  made.setAttribute("aria-label", `${classOf(index)}, ${data.names[index]}`);
  paintCanvas(made, index);
  return made;
}

async function loadSheets() {
  // A bitmap stays decoded; an image may be decoded anew in the midst of a drag.
  const bitmap = async (image) => {
    await image.decode();
    return createImageBitmap(image);
  };
  const load = (chosen) => Promise.all([...document.querySelectorAll(chosen)].map(bitmap));
  sheets = await load("img.sheet:not(.of-large)");
  largeSheets = await load("img.of-large");
  for (const canvas of document.querySelectorAll("canvas[data-picture]")) {
    paintCanvas(canvas, Number(canvas.dataset.picture));
  }
}

// A picture enlarged, over the page.

const enlarged = byId("enlarged");
let enlargedIndex = -1;

function enlarge(index) {
  enlargedIndex = index;
  const canvas = enlarged.querySelector("canvas");
  const size = 600;
  canvas.width = Math.round(size * Math.min(1, ratio[index]));
  canvas.height = Math.round(size * Math.min(1, 1 / ratio[index]));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  const left = (canvas.width - size) / 2;
  const top = (canvas.height - size) / 2;
  if (largeOf.has(index)) {
    paintFrom(context, largeSheets, data.largeSheet, largeOf.get(index), ratio[index], left, top, size);
  } else paintPicture(context, index, left, top, size);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${classOf(index)}, ${data.names[index]}`);
  enlarged.querySelector("div").replaceChildren(element("b", {}, named(classOf(index))), " ",
    ...(data.fine ? [named(coarseOf(index)), " "] : []), element("small", {}, named(data.names[index])));
  byId("enlarged-find").hidden = index >= points;
  enlarged.showModal();
}

function makeEnlarging() {
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-enlarge]");
    if (button) enlarge(Number(button.dataset.enlarge));
    else if (event.target === enlarged) enlarged.close(); // beside the picture
  });
  byId("enlarged-close").addEventListener("click", () => enlarged.close());
  byId("enlarged-find").addEventListener("click", () => {
    enlarged.close();
    goToMap(() => select(enlargedIndex));
  });
}

// Colours.

const FOUND = { light: ["#2a7f3f", "#b97f00", "#c23b22"], dark: ["#5cc47a", "#eab308", "#f2755c"] };
const foundColour = (number) => FOUND[dark ? "dark" : "light"][number];

const paints = {
  coarse: (index) => coarse[index],
  label: (index) => label[index],
  found: (index) => found[index],
};

function styles(key) {
  if (byId("colour").value === "found") return { colour: foundColour(key), shape: SHAPES[key] };
  return { colour: colourOf(key), shape: "circle" };
}

// Class names on the map: at the middle of their shown points, the tightest class first.

let labelled = [];

function placeLabels() {
  labelled = map.middles(label, (number) => data.classNames[number]);
}

// The panel: what is known of a picture.

const panel = byId("details");
let inPanel = -1;

function show(index) {
  if (index < 0 || index === inPanel) return;
  inPanel = index;
  const facts = element("dl", {},
    element("dt", { textContent: data.fine ? "Fine class" : "Class" }),
    element("dd", {}, named(classOf(index))));
  if (data.fine) {
    facts.append(element("dt", { textContent: "Coarse class" }),
      element("dd", {}, named(coarseOf(index))));
  }
  facts.append(element("dt", { textContent: "Picture" }),
    element("dd", { className: "name" }, named(data.names[index])),
    element("dt", { textContent: "Nearest of all" }),
    element("dd", { className: VERDICTS[found[index]] },
      element("span", { className: "mark", textContent: MARKS[found[index]] }),
      ` of ${MEANING[found[index]]}`));
  const list = element("ol");
  related(index).forEach((other, place) => {
    const what = verdict(index, other);
    const score = (similarity[index * data.k + place] / 100).toFixed(2);
    const button = element("button", { type: "button", className: VERDICTS[what], title: data.names[other] },
      pictureOf(other, 48), element("span", { className: "mark", textContent: MARKS[what] }), " ",
      named(classOf(other)), element("small", { textContent: score }));
    button.addEventListener("click", () => select(other, true));
    list.append(element("li", {}, button));
  });
  const large = element("button", { type: "button", className: "enlarge", title: "enlarge" },
    Object.assign(pictureOf(index, 160), { className: "large" }));
  large.dataset.enlarge = index;
  panel.replaceChildren(large, facts, element("h3", { textContent: "Nearest on the map" }), list);
}

function sentence(index) {
  const near = [...related(index)].slice(0, 5).map((other) =>
    `${VERDICTS[verdict(index, other)]} ${classOf(other)}`);
  const under = data.fine ? ` of ${coarseOf(index)}` : "";
  return `${classOf(index)}${under}, ${data.names[index]}. The nearest of all is of ` +
    `${MEANING[found[index]]}. Nearest on the map: ${near.join(", ")}.`;
}

/** Keep a picture: on the map, in the panel, in words. */
function select(index, stay = false) {
  map.pinned = index;
  map.hover = -1;
  tip.hidden = true;
  if (index >= 0) {
    if (!map.shown[index]) clearFilters();
    show(index);
    map.reveal(index);
  }
  byId("live").textContent = index < 0 ? "No picture is chosen." : sentence(index);
  if (stay) panel.querySelector("li button")?.focus({ preventScroll: true });
  map.queue();
}

// The picture beside the pointer.

const tip = byId("tip");

function hover(index, px, py) {
  tip.hidden = index < 0;
  if (index < 0) return;
  if (Number(tip.dataset.index) !== index) {
    tip.dataset.index = index;
    paintCanvas(tip.firstElementChild, index);
    tip.lastElementChild.replaceChildren(element("b", {}, named(classOf(index))),
      ...(data.fine ? [element("span", {}, named(coarseOf(index)))] : []),
      element("small", {}, named(data.names[index])));
  }
  map.beside(tip, px, py);
  if (map.pinned < 0) show(index);
}

// Filters.

const words = data.names.slice(0, points).map((name, i) =>
  `${name}\n${classOf(i)}\n${coarseOf(i)}`.toLowerCase());
const boxes = [];
let onlyClasses = null;

function makeFilters() {
  const counts = new Array(data.coarseNames.length).fill(0);
  for (let i = 0; i < points; i++) counts[coarse[i]]++;
  data.coarseNames.forEach((name, number) => {
    const box = element("input", { type: "checkbox", checked: true });
    box.addEventListener("change", filter);
    boxes.push(box);
    if (!counts[number]) return;
    const swatch = element("span", { className: "swatch" });
    byId("coarse").append(element("label", { className: "check" }, box, swatch, named(name),
      element("small", { textContent: counts[number].toLocaleString("en") })));
  });
  const set = (value) => () => {
    for (const box of boxes) box.checked = value;
    filter();
  };
  byId("all").addEventListener("click", set(true));
  byId("none").addEventListener("click", set(false));
  byId("search").addEventListener("input", filter);
  byId("only-clear").addEventListener("click", () => {
    onlyClasses = null;
    filter();
    byId("search").focus();
  });
  byId("colour").addEventListener("change", recolour);
  byId("written").addEventListener("change", () => map.queue());
  document.querySelector("form.filters").addEventListener("submit", (event) => event.preventDefault());
}

function clearFilters() {
  for (const box of boxes) box.checked = true;
  byId("search").value = "";
  onlyClasses = null;
  filter();
}

function filter() {
  const wanted = byId("search").value.trim().toLowerCase();
  let count = 0;
  for (let i = 0; i < points; i++) {
    const on = boxes[coarse[i]].checked && (!onlyClasses || onlyClasses.has(label[i])) &&
      (!wanted || words[i].includes(wanted));
    map.shown[i] = on ? 1 : 0;
    count += on;
  }
  byId("count").textContent =
    `${count.toLocaleString("en")} of ${points.toLocaleString("en")} pictures shown`;
  byId("only").hidden = !onlyClasses;
  if (onlyClasses) {
    const names = [...onlyClasses].map((number) => data.classNames[number]);
    byId("only").firstElementChild.textContent = `only ${names.join(" and ")}`;
  }
  map.hover = -1;
  tip.hidden = true;
  placeLabels();
  map.queue();
  first = 0;
  fillTable();
}

/** After a change of what colours mean, or of light and dark. */
function recolour() {
  map.paint = paints[byId("colour").value];
  map.ink = inkOf();
  map.colours.clear();
  const byCoarse = byId("colour").value === "coarse";
  document.querySelectorAll("#coarse .check").forEach((line) => {
    const swatch = line.querySelector(".swatch");
    swatch.hidden = !byCoarse;
    swatch.style.background = colourOf(boxes.indexOf(line.querySelector("input")));
  });
  const legend = byId("legend");
  legend.hidden = byId("colour").value !== "found";
  legend.replaceChildren(...VERDICTS.flatMap((name, number) => MEANING[number] ? [
    element("span", { className: `key ${name}` }, shapeOf(number), ` ${MEANING[number]}`)] : []));
  map.queue();
}

function shapeOf(number) {
  const made = element("canvas", { width: 16, height: 16 });
  const context = made.getContext("2d");
  context.translate(8, 8);
  outline(context, SHAPES[number], 6);
  context.fillStyle = foundColour(number);
  context.fill();
  return made;
}

// The same as a table.

let first = 0;

function fillTable() {
  if (!byId("list").open) return;
  const rows = [];
  for (let i = 0; i < points; i++) if (map.shown[i]) rows.push(i);
  first = Math.max(0, Math.min(first, rows.length - 1));
  const end = Math.min(first + PER_PAGE, rows.length);
  byId("page").textContent = rows.length
    ? `${(first + 1).toLocaleString("en")} to ${end.toLocaleString("en")} of ${rows.length.toLocaleString("en")}`
    : "none";
  byId("before").disabled = first === 0;
  byId("after").disabled = end >= rows.length;
  const body = byId("list").querySelector("tbody");
  body.replaceChildren(...rows.slice(first, end).map((i) => {
    const button = element("button", { type: "button" }, pictureOf(i, 32), named(data.names[i]));
    button.addEventListener("click", () => select(i));
    const nearest = related(i)[0];
    const cells = [element("td", {}, button)];
    if (data.fine) cells.push(element("td", {}, named(classOf(i))));
    cells.push(element("td", {}, named(coarseOf(i))),
      element("td", {}, nearest === undefined ? "" : named(classOf(nearest))),
      element("td", { className: VERDICTS[found[i]], textContent: `${MARKS[found[i]]} ${VERDICTS[found[i]]}` }));
    return element("tr", {}, ...cells);
  }));
}

function makeTable() {
  byId("list").addEventListener("toggle", fillTable);
  for (const [id, by] of [["before", -PER_PAGE], ["after", PER_PAGE]]) {
    byId(id).addEventListener("click", () => {
      first += by;
      fillTable();
    });
  }
  if (!data.fine) {
    byId("list").querySelector("th.fine").remove();
    byId("colour-label").remove();
  }
}

// Buttons elsewhere on the page that lead to the map.

function goToMap(show) {
  show();
  byId("map").scrollIntoView();
  map.canvas.focus({ preventScroll: true });
}

function makeLinks() {
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-select], [data-classes]");
    if (!button) return;
    goToMap(() => {
      if (button.dataset.select) select(Number(button.dataset.select));
      else {
        for (const box of boxes) box.checked = true;
        byId("search").value = "";
        onlyClasses = new Set(button.dataset.classes.split(" ").map(Number));
        filter();
        map.whole();
      }
    });
  });
  for (const [id, act] of [
    ["closer", () => map.zoom(1.5)], ["farther", () => map.zoom(1 / 1.5)], ["whole", () => map.whole()],
  ]) byId(id).addEventListener("click", act);
}

const map = new PlaceMap(byId("canvas"), x, y, {
  paint: paints.coarse,
  styles,
  ink: inkOf(),
  picture: paintPicture,
  related,
  labels: () => (byId("written").checked ? labelled : []),
  hovered: hover,
  chosen: (index) => select(index),
});
makeFilters();
makeTable();
makeLinks();
makeEnlarging();
recolour();
filter();
scheme.addEventListener("change", (event) => {
  dark = event.matches;
  recolour();
});
loadSheets().then(() => {
  map.queue();
  fillTable();
  document.documentElement.dataset.ready = "yes";
});
