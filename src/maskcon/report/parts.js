"use strict";

// What the pages of the house share: elements of text, colours of many kinds, light and dark.

const byId = (id) => document.getElementById(id);

/** An element with a class, text or children; text is never HTML. */
function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** A name that somebody gave: text that runs its own way and may break after "_". */
function named(name) {
  const parts = name.split(/(?<=_)/);
  return element("bdi", {}, ...parts.flatMap((part, i) => (i ? [element("wbr"), part] : [part])));
}

const scheme = window.matchMedia("(prefers-color-scheme: dark)");
let dark = scheme.matches; // kept: reading it again would swallow the event of a change

function colourOf(number) {
  const colours = PALETTE[dark ? "dark" : "light"]; // of palette.py
  return colours[number % colours.length];
}

function inkOf() {
  const style = getComputedStyle(document.documentElement);
  const get = (name) => style.getPropertyValue(name).trim();
  return { paper: get("--paper"), text: get("--ink"), line: get("--soft"), ring: get("--accent") };
}
