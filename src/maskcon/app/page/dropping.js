// Pictures and groups that are dragged onto groups.

import { merge, moveTo, moveToNew } from "./actions.js";
import { state } from "./store.js";
import { PICTURES } from "./tiles.js";

export const GROUP = "application/x-maskcon-group";

const byGroupId = (id) => state.groups.find((group) => group.id === id);

/** Let an element take what is dropped on it: its data-group says which group it stands for. */
export function takesDrops(box) {
  const target = (event) => event.target.closest("[data-group]");
  const wanted = (event) =>
    !state.project.read_only && event.dataTransfer.types.some((type) => type === PICTURES || type === GROUP);
  const light = (row) => {
    for (const other of box.querySelectorAll(".over")) {
      if (other !== row) other.classList.remove("over");
    }
    row?.classList.add("over");
  };
  box.addEventListener("dragstart", (event) => {
    const row = event.target.closest?.("[data-group][draggable=true]");
    if (!row?.dataset.group || event.dataTransfer.types.includes(PICTURES)) return;
    event.dataTransfer.setData(GROUP, row.dataset.group);
  });
  box.addEventListener("dragover", (event) => {
    const row = target(event);
    light(wanted(event) ? row : null);
    if (row && wanted(event)) event.preventDefault();
  });
  box.addEventListener("dragleave", () => light(null));
  box.addEventListener("drop", (event) => {
    const row = target(event);
    light(null);
    if (!row || !wanted(event)) return;
    event.preventDefault();
    dropped(event.dataTransfer, byGroupId(row.dataset.group));
  });
}

function dropped(data, group) {
  const pictures = data.getData(PICTURES);
  if (pictures) {
    const ids = JSON.parse(pictures);
    if (group) moveTo(ids, group);
    else moveToNew(ids); // an element with no group stands for a new one
    return;
  }
  const other = byGroupId(data.getData(GROUP));
  if (other && group && other !== group) merge([group, other]);
}
