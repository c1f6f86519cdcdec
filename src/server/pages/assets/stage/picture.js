// "as SVG": the stage at this moment as one file for a slide or a post. It is drawn again, always across and in one
// size, whatever the visitor's screen. A slide program reads no style sheet, so each element carries its paint, in the
// light theme's colours. A browser finds the dark theme's colours in the file's own style sheet. The fonts are the
// reader's.

import { svg, sync } from "./dom.js";
import { draw } from "./draw.js";
import { money, often } from "./figures.js";
import { viewOf } from "./geometry.js";
import { scaleOf } from "./scale.js";

/** In px. `letters` is what a line below the stage holds in the widest of the usual serif fonts. */
const SIZE = { width: 960, edge: 24, head: 62, stage: 350, line: 26, foot: 50, letters: 84 };

/** The view and the scale of the picture of a run. */
export function pictureView(events, last) {
  const view = viewOf({ width: SIZE.width, height: SIZE.stage, down: false, replicas: last.settings.replicas === 2 ? 2 : 1 });
  return { view, scale: scaleOf(events, last, view) };
}

function linesOf(text) {
  const lines = [""];
  for (const word of text.split(" ")) {
    if (lines.at(-1).length + word.length < SIZE.letters) lines.push(`${lines.pop()} ${word}`.trim());
    else lines.push(word);
  }
  return lines;
}

function booksInWords({ truth: { books } }) {
  return books.length === 0 ? "nothing taken" : `${money(books[0].amount, books[0].currency)} taken ${often(books.length)}`;
}

/** The parts of the picture: what the run is and what was taken, the stage, and the sentence of the step. */
export function composed({ events, last, state, now, view, scale }, { title, sentence, when }) {
  const { width, edge, head, stage, line, foot } = SIZE;
  const lines = linesOf(sentence);
  const height = head + stage + lines.length * line + foot;
  const text = (key, kind, x, y, words, anchor = "start") => ({ key, tag: "text", attributes: { class: kind, x, y, "text-anchor": anchor }, text: words });
  const below = head + stage + 30;
  return {
    width, height, title: `${title}. ${sentence}`,
    parts: [
      { key: "paper", tag: "rect", attributes: { class: "paper", width, height } },
      text("title", "heading", edge, 38, title),
      text("books", state.truth.books.length > 1 ? "sum bad" : "sum", width - edge, 38, booksInWords(state), "end"),
      { key: "stage", tag: "g", attributes: { transform: `translate(0 ${head})` }, children: draw(events, state, last, scale, view, now) },
      ...lines.map((words, index) => text(`line${index}`, "caption", edge, below + index * line, words)),
      text("when", "when", edge, height - 18, when),
    ],
  };
}

/** What a group, a shape and a text carry, with the value that needs no attribute. */
const GROUP = { opacity: "1" };
const SHAPE = { ...GROUP, fill: "rgb(0, 0, 0)", stroke: "none", "stroke-width": "1px", "stroke-dasharray": "none", "stroke-linecap": "butt", "stroke-linejoin": "miter" };
const TEXT = { ...SHAPE, "font-size": "", "font-weight": "400", "font-family": "", "text-decoration-line": "none" };
const carriedBy = (element) => ({ g: GROUP, text: TEXT })[element.tagName] ?? SHAPE;

/** What the page's styles make of each element in a theme. */
function stylesOf(elements, theme) {
  document.documentElement.style.colorScheme = theme;
  return elements.map((element) => {
    const style = getComputedStyle(element);
    return Object.fromEntries([...Object.keys(carriedBy(element)), "paint-order"].map((name) => [name, style.getPropertyValue(name)]));
  });
}

const withoutWebFont = (families) => families.split(",").slice(1).join(",").trim();

/** Writes an element's paint into its attributes. `darkClass(property, colour)` is the class that gives it the dark theme's colour. */
function paint(element, light, dark, darkClass) {
  for (const [name, usual] of Object.entries(carriedBy(element))) {
    const isOfNoStroke = name.startsWith("stroke-") && light.stroke === "none";
    if (isOfNoStroke || (light[name] === usual && dark[name] === usual)) continue;
    const value = name === "font-family" ? withoutWebFont(light[name]) : light[name].replace(/px/g, "");
    element.setAttribute(name.replace("decoration-line", "decoration"), value);
    if (light[name] !== dark[name]) element.classList.add(darkClass(name, dark[name]));
  }
  delete element.dataset.key;
}

/** Not every program knows `paint-order`: the halo of a text becomes an element below it. */
function paintWithHalo(element, light, dark, darkClass) {
  if (light["paint-order"].startsWith("stroke")) {
    const halo = element.cloneNode(true);
    element.before(halo);
    paint(halo, { ...light, fill: "none" }, { ...dark, fill: "none" }, darkClass);
    [light, dark] = [light, dark].map((style) => ({ ...style, stroke: "none" }));
  }
  paint(element, light, dark, darkClass);
}

/** The picture as the text of a file. */
export function standalone({ width, height, title, parts }) {
  const drawing = svg("svg", { class: "stage", hidden: true });
  document.body.append(drawing);
  try {
    sync(drawing, parts);
    const elements = Array.from(drawing.querySelectorAll("*"));
    const [light, dark] = [stylesOf(elements, "light"), stylesOf(elements, "dark")];
    const rules = new Map();
    const darkClass = (property, colour) => {
      const rule = `{${property}:${colour}}`;
      if (!rules.has(rule)) rules.set(rule, `dark${rules.size}`);
      return rules.get(rule);
    };
    elements.forEach((element, index) => paintWithHalo(element, light[index], dark[index], darkClass));
    const style = `@media (prefers-color-scheme: dark){${Array.from(rules, ([rule, name]) => `.${name}${rule}`).join("")}}`;
    const file = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img" }, svg("title", {}, title), svg("style", {}, style), ...drawing.childNodes);
    return new XMLSerializer().serializeToString(file);
  } finally {
    drawing.remove();
    document.documentElement.style.colorScheme = "";
  }
}
