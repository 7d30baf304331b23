// A choice of one among many names: typed, with arrows, or by a click.

/* global byId, element, named */

let choices = [];
let at = 0;
let settle = null;

/**
 * Ask for one of several.
 * @param title of the question
 * @param offered(words) -> [{text, hint, value}]: what is offered where so much was typed
 * @returns the value, or undefined where nobody chose
 */
export function choose(title, offered) {
  const dialog = byId("chooser");
  const words = byId("chooser-words");
  byId("chooser-title").textContent = title;
  words.value = "";
  const fill = () => {
    choices = offered(words.value.trim());
    at = 0;
    paint();
  };
  words.oninput = fill;
  fill();
  dialog.returnValue = "";
  dialog.showModal();
  words.focus();
  return new Promise((done) => { settle = done; });
}

function paint() {
  const list = byId("chooser-list");
  list.replaceChildren(...choices.map((choice, i) => {
    const item = element("li", { id: `choice-${i}` }, named(choice.text), element("small", { textContent: choice.hint ?? "" }));
    item.setAttribute("role", "option");
    item.setAttribute("aria-selected", String(i === at));
    return item;
  }));
  if (!choices.length) list.append(element("li", { className: "note", textContent: "Nothing is called so." }));
  byId("chooser-words").setAttribute("aria-activedescendant", choices.length ? `choice-${at}` : "");
  list.children[at]?.scrollIntoView({ block: "nearest" });
}

function take(index) {
  const value = choices[index]?.value;
  if (value === undefined) return;
  const done = settle;
  settle = null;
  byId("chooser").close();
  done(value);
}

export function startChooser() {
  const dialog = byId("chooser");
  byId("chooser-words").addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && choices.length) {
      at = (at + step + choices.length) % choices.length;
      paint();
    } else if (event.key === "Enter") take(at);
    else return;
    event.preventDefault();
  });
  byId("chooser-list").addEventListener("click", (event) => {
    const item = event.target.closest("[role=option]");
    if (item) take([...byId("chooser-list").children].indexOf(item));
  });
  dialog.addEventListener("close", () => {
    settle?.(undefined);
    settle = null;
  });
}
