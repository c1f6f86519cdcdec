// Small helpers for elements.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** `h("p", {class: "x"}, "text", child)` */
export const h = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);

export const svg = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

/** The shape of an outcome, so that a reader does not need the colour. Drawn around 0,0 in a box of 12. */
export function shape(outcome, x = 0, y = 0) {
  const at = { class: `shape ${outcome}`, transform: `translate(${x} ${y})` };
  const line = (d) => svg("path", { d });
  switch (outcome) {
    case "fresh": return svg("g", at, svg("circle", { r: 5 }));
    case "again": return svg("g", at, svg("circle", { r: 6 }), svg("path", { class: "cut", d: "M0 -3.2V.6M0 3v.2" }));
    case "replayed": return svg("g", at, svg("circle", { r: 5, class: "hollow" }), svg("circle", { r: 1.7 }));
    case "flight": return svg("g", at, svg("path", { d: "M-4.5 -5H4.5L-4.5 5H4.5Z" }));
    case "refused": return svg("g", at, svg("rect", { x: -5, y: -5, width: 10, height: 10, rx: 1.5 }), svg("path", { class: "cut", d: "M-2.6 0H2.6" }));
    case "failed": return svg("g", at, line("M-4.2 -4.2L4.2 4.2M4.2 -4.2L-4.2 4.2"));
    case "lost": return svg("g", at, svg("circle", { r: 5, class: "dashed" }));
    default: return svg("g", at, line("M-3 0H3"));
  }
}

/** A shape with its name. */
export function badge(outcome, name) {
  const picture = svg("svg", { viewBox: "-8 -8 16 16", width: 16, height: 16, "aria-hidden": "true" }, shape(outcome));
  return h("span", { class: `badge ${outcome}` }, picture, name);
}

/** A span of ms: "40 ms", "4.1 s". */
export const span = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s`);

/** The time that is left, for example "23:59:41". Counts down each second. */
class TimeLeft extends HTMLElement {
  connectedCallback() {
    this.show();
    this.timer = setInterval(() => this.show(), 1000);
  }

  disconnectedCallback() {
    clearInterval(this.timer);
  }

  show() {
    const seconds = Math.round((new Date(this.getAttribute("until")) - Date.now()) / 1000);
    if (seconds <= 0) {
      this.textContent = "over";
      return;
    }
    const two = (number) => String(number).padStart(2, "0");
    this.textContent = `${two(Math.floor(seconds / 3600))}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`;
  }
}
customElements.define("time-left", TimeLeft);
