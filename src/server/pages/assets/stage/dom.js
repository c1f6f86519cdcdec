// Small parts for building and updating the page.

export const byId = (id) => document.getElementById(id);

/** An element: `make("button", { type: "button" }, "Play")`. A member that begins with `on` is a listener. */
export function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

export const svg = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

/**
 * Makes the children of `parent` equal to `wanted`: [{key, tag, attributes, text, children}]. An element with a known key stays,
 * so that its transitions and animations go on.
 */
export function sync(parent, wanted) {
  const known = new Map(Array.from(parent.children, (child) => [child.dataset.key, child]));
  let last = null;
  for (const { key, tag, attributes = {}, text, children } of wanted) {
    let element = known.get(key);
    known.delete(key);
    if (!element || element.tagName !== tag) {
      element?.remove();
      element = document.createElementNS(SVG, tag);
      element.dataset.key = key;
    }
    for (const [name, value] of Object.entries(attributes)) {
      const wantedValue = String(value);
      if (element.getAttribute(name) !== wantedValue) element.setAttribute(name, wantedValue);
    }
    for (const name of element.getAttributeNames()) if (!(name in attributes) && name !== "data-key") element.removeAttribute(name);
    if (text !== undefined && element.textContent !== text) element.textContent = text;
    if (children) sync(element, children);
    const after = last ? last.nextSibling : parent.firstChild;
    if (after !== element) parent.insertBefore(element, after);
    last = element;
  }
  for (const gone of known.values()) gone.remove();
}

/** A picture of `index.html`'s symbols. */
export const icon = (name) => svg("svg", { class: "icon", "aria-hidden": "true" }, svg("use", { href: `#i-${name}` }));

/** Puts text into an element only if it changes, so that a live region speaks once. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** `sessionStorage`, where a browser allows it. Without it, the page forgets at the next load and works all the same. */
export const memory = {
  get(name) {
    try {
      return JSON.parse(sessionStorage.getItem(name));
    } catch {
      return null;
    }
  },
  set(name, value) {
    try {
      sessionStorage.setItem(name, JSON.stringify(value));
    } catch {
      // Storage is blocked.
    }
  },
};
