// Search by a picture: dropped, pasted, chosen, or one of the project's own.

/* global byId, element */
import { post, postPicture, thumbOf } from "./api.js";
import { attempt, groupOf, plural, titleOf } from "./store.js";
import { Tiles } from "./tiles.js";

const COUNT = 48; // pictures that are found
const SIDE = 160; // of the picture that is shown, in pixels

async function found(asking, shown) {
  const box = byId("asked-with");
  box.replaceChildren(shown);
  box.hidden = false;
  byId("search-said").textContent = "Searching…";
  const answer = await attempt(asking);
  if (!answer) {
    byId("search-said").textContent = byId("live").textContent;
    byId("found").replaceChildren();
    return;
  }
  const similarity = new Map(answer.found.map((one) => [one.id, one.similarity]));
  const caption = (id) => `${similarity.get(id).toFixed(2)} · ${groupOf(id) ? titleOf(groupOf(id)) : "no group"}`;
  const tiles = new Tiles("What is most alike", { caption });
  tiles.set(answer.found.map((one) => one.id));
  byId("found").replaceChildren(tiles.box);
  byId("search-said").textContent = `${plural(answer.found.length, "picture")}, the most alike first.`;
}

/** By a file that the person has: drawn small, so that one sees what was asked. */
async function byFile(file) {
  if (!file) return;
  location.hash = "#search";
  const canvas = element("canvas", { width: SIDE, height: SIDE });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", file.name ? `the picture ${file.name}` : "the pasted picture");
  createImageBitmap(file).then((image) => {
    const scale = Math.min(SIDE / image.width, SIDE / image.height);
    canvas.width = Math.max(1, Math.round(image.width * scale));
    canvas.height = Math.max(1, Math.round(image.height * scale));
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  }, () => {}); // the server says what is wrong with it
  await found(() => postPicture("search", { count: COUNT }, file), canvas);
}

function byPicture(id) {
  const shown = element("img", { src: thumbOf(id, 256), alt: `picture ${id + 1}` });
  return found(() => post("search", { picture: id, count: COUNT }), shown);
}

const fileOf = (data) => [...(data?.files ?? [])].find((file) => file.type.startsWith("image/") || !file.type);

export const searchView = {
  start() {
    byId("file").addEventListener("change", () => byFile(byId("file").files[0]));
    byId("drop").addEventListener("submit", (event) => event.preventDefault());
    document.addEventListener("paste", (event) => {
      const file = fileOf(event.clipboardData);
      if (file) byFile(file);
    });
    const files = (event) => event.dataTransfer.types.includes("Files");
    document.addEventListener("dragover", (event) => {
      if (!files(event)) return;
      event.preventDefault();
      byId("drop").classList.add("over");
    });
    document.addEventListener("dragleave", () => byId("drop").classList.remove("over"));
    document.addEventListener("drop", (event) => {
      byId("drop").classList.remove("over");
      if (!files(event)) return;
      event.preventDefault();
      byFile(fileOf(event.dataTransfer));
    });
  },
  show(value) {
    if (value) return byPicture(Number(value));
    return null;
  },
};
