// Export: what was found, for other programs.

/* global byId, element */
import { post } from "./api.js";
import { attempt } from "./store.js";

const KINDS = [
  ["groups.csv", "Table", "groups.csv: a row for each picture, which maskcon train --data and labelling tools read"],
  ["links", "Folders of links", "a folder for each group, with links to the photos"],
  ["copies", "Folders of copies", "a folder for each group, with copies of the photos"],
  ["label-studio", "Label Studio", "tasks with the groups as predictions"],
  ["cvat", "CVAT", "annotations.xml, and labels.json to set its labels up with"],
  ["fiftyone", "FiftyOne", "a data set to import"],
  ["encoder", "Encoder", "the network that tells the pictures apart, for maskcon.Encoder.load"],
  ["report", "Report", "one HTML page about how good the network is"],
];

export const exportView = {
  start() {
    byId("kinds").replaceChildren(...KINDS.map(([kind, title, words]) => {
      const button = element("button", { type: "button", textContent: title });
      button.addEventListener("click", async () => {
        button.disabled = true;
        byId("exported").textContent = `${title}: writing…`;
        const made = await attempt(() => post("export", { kind }));
        byId("exported").textContent = made ? `${title}: ${made.path}` : byId("live").textContent;
        button.disabled = false;
      });
      return element("li", {}, button, element("span", { className: "note", textContent: words }));
    }));
  },
  show() {},
};
