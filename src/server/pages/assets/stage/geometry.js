// Where the lanes are. Across (on a wide screen) time runs to the right; down (on a phone) time runs down.
//
// `u` is a place in time, `v` a place across the lanes. Everything is in CSS px, so that text has one size at each width.

const ACROSS = { start: 112, end: 30 };
const DOWN = { start: 46, end: 60 };

/** The view of a stage of this size. `replicas` is 1 or 2. */
export function viewOf({ width, height, down, replicas }) {
  if (down) {
    const api = Math.round(width * 0.33);
    const lanes = { client: Math.round(width * 0.115), a: api, b: api + 26, gateway: width - 36 };
    const pg = { from: (replicas === 2 ? lanes.b : lanes.a) + 30, to: width - 72 };
    return { down, width, height, replicas, lanes, pg, start: DOWN.start, length: height };
  }
  const client = 48;
  const a = client + Math.round(height * (replicas === 2 ? 0.135 : 0.16));
  const lanes = { client, a, b: a + 30, gateway: height - 36 };
  const pg = { from: (replicas === 2 ? lanes.b + 36 : lanes.a + 44), to: lanes.gateway - 36 };
  return { down, width, height, replicas, lanes, pg, start: ACROSS.start, length: width - ACROSS.start - ACROSS.end };
}

/** How far down the drawing reaches. */
export const extentOf = (view, scale) => (view.down ? scale.end + DOWN.end : view.height);

export const point = (view, u, v) => (view.down ? [v, u] : [u, v]);

const round = (number) => Math.round(number * 10) / 10;

export function rectangle(view, u0, u1, v0, v1) {
  const [x, y] = point(view, u0, v0);
  const [w, h] = point(view, u1 - u0, v1 - v0);
  return { x: round(x), y: round(y), width: round(Math.max(w, 0)), height: round(Math.max(h, 0)) };
}

/** A line from one place to another, as far as `progress`, with a head when it arrives. */
export function arrow(view, key, kind, [u0, v0], [u1, v1], progress = 1, head = true) {
  const [x0, y0] = point(view, u0, v0);
  const [x1, y1] = point(view, u1, v1);
  const [x, y] = [x0 + (x1 - x0) * progress, y0 + (y1 - y0) * progress];
  const angle = Math.atan2(y1 - y0, x1 - x0);
  const side = (turn, size) => `${round(x - size * Math.cos(angle + turn))} ${round(y - size * Math.sin(angle + turn))}`;
  const children = [{ key: "shaft", tag: "path", attributes: { class: "shaft", d: `M${round(x0)} ${round(y0)}L${round(x)} ${round(y)}` } }];
  if (head) children.push({ key: "head", tag: "path", attributes: { class: "head", d: `M${side(0.36, 9)}L${round(x)} ${round(y)}L${side(-0.36, 9)}Z` } });
  return { key, tag: "g", attributes: { class: `arrow ${kind}` }, children };
}

/** A text at a place; `dx` and `dy` are always across the screen. */
export function label(view, key, kind, u, v, text, { dx = 0, dy = 0, anchor = "middle" } = {}) {
  const [x, y] = point(view, u, v);
  return { key, tag: "text", attributes: { class: `label ${kind}`, x: round(x + dx), y: round(y + dy), "text-anchor": anchor }, text };
}

export function disc(view, key, kind, u, v, r, path) {
  const [x, y] = point(view, u, v);
  const children = [{ key: "disc", tag: "circle", attributes: { r } }];
  if (path) children.push({ key: "mark", tag: "path", attributes: { class: "mark", d: path } });
  return { key, tag: "g", attributes: { class: `disc ${kind}`, transform: `translate(${round(x)} ${round(y)})` }, children };
}

export const MARKS = {
  cross: "M-3.6-3.6L3.6 3.6M3.6-3.6L-3.6 3.6",
  bolt: "M1.4-6.2L-3.6 .9H-.5L-1.4 6.2L3.6-.9H.5Z",
  tick: "M-5 .3L-1.4 4L5.2-3.6",
  euro: "M4.4-4.2A5.6 5.6 0 1 0 4.4 4.2M-7-1.3H1.6M-7 1.3H1",
  look: "M1.6 1.6L5 5M3-1.4A4.2 4.2 0 1 1-5.4-1.4 4.2 4.2 0 1 1 3-1.4Z",
  minus: "M-4.5 0H4.5",
};
