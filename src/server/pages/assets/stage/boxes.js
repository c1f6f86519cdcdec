// The lane of PostgreSQL: a transaction is a box with a lock and its rows. The rows are dashed until COMMIT.

import { arrow, label, point, rectangle } from "./geometry.js";

const HEAD = 23;
/** A row of a transaction: as high as the lane allows, within these bounds. */
const CHIP = { least: 19, most: 25 };
const NARROW = 40;

/** An advance of the monospaced face at 10.5 px. */
const LETTER = 6.35;

const LOCK = { closed: "M2 5.6V3.6a3 3 0 0 1 6 0V5.6", open: "M7.6 5.6V2.6a3 3 0 0 1 6 0V4.2" };

const roomFor = (width) => Math.max(Math.floor(width / LETTER), 2);
const cut = (text, width) => (text.length <= roomFor(width) ? text : `${text.slice(0, roomFor(width) - 1)}…`);
/** Two keys of one run differ at the end. */
const cutKey = (key, width) => (key.length <= roomFor(width) ? key : `…${key.slice(1 - roomFor(width))}`);

/** Gives each transaction with rows a slot, so that concurrent boxes are side by side. */
function slotsOf(transactions, place, quiet) {
  const slots = new Map();
  const ends = [];
  for (const one of transactions) {
    if (one.rows.length === 0 || quiet.has(one.from)) continue;
    const from = place[one.from];
    let slot = ends.findIndex((end) => end <= from);
    if (slot < 0) slot = ends.length;
    ends[slot] = one.to === null ? Infinity : place[one.to];
    slots.set(one.from, slot);
  }
  return { slots, count: Math.max(ends.length, 1) };
}

/** The name of the COMMIT: the first one stores the 202, the second one the final reply. */
function commitOf(rows) {
  const record = rows.find(({ group }) => group === "records");
  if (!record || record.id.startsWith("demo.")) return "COMMIT";
  return record.after === "202" || record.label.includes("202") ? "COMMIT 1" : "COMMIT 2";
}

/** The resolver's transaction locks rows. Its record says which key it works for. */
const keyOf = (rows) => rows.find(({ group }) => group === "records")?.id.split(":").at(-1);

const lock = (x, y, open) => ({
  key: "lock", tag: "g", attributes: { class: open ? "lock open" : "lock", transform: `translate(${x} ${y})` },
  children: [
    { key: "shackle", tag: "path", attributes: { class: "shackle", d: open ? LOCK.open : LOCK.closed } },
    { key: "body", tag: "rect", attributes: { class: "body", x: 0, y: 5.2, width: 10, height: 7.6, rx: 1.6 } },
  ],
});

const chip = (key, { x, y, width, height }, text, kind = "") => ({
  key, tag: "g", attributes: { class: height < 13 ? `chip small ${kind}` : `chip ${kind}` },
  children: [
    { key: "rect", tag: "rect", attributes: { x, y, width, height, rx: 3.5 } },
    { key: "text", tag: "text", attributes: { x: x + 7, y: y + height / 2 + (height < 13 ? 3.2 : 3.7) }, text: cut(text, width - 12) },
  ],
});

/** A transaction with rows. `whole` is the same transaction at the end of the run. */
function box(view, place, one, whole, key, slot, count, now) {
  const from = place[one.from];
  const to = Math.max(whole.to === null ? now : place[whole.to], from + NARROW);
  const size = (view.pg.to - view.pg.from) / count;
  const area = rectangle(view, from, to, view.pg.from + slot * size, view.pg.from + (slot + 1) * size - (count > 1 ? 5 : 0));
  const expected = whole.rows.length;
  const foot = view.down ? 17 : 0;
  const chipHeight = Math.min(Math.max((view.pg.to - view.pg.from) / 9, CHIP.least), view.down ? CHIP.least : CHIP.most);
  if (!view.down && count === 1) area.height = Math.min(area.height, HEAD + 5 + expected * chipHeight);
  const { x, y, width, height } = area;
  const free = height - HEAD - 5 - foot;
  const fits = Math.max(Math.floor(free / 12), 1);
  const step = Math.min(chipHeight, free / Math.min(expected, fits));
  const shown = one.rows.slice(-fits);
  const locked = one.lock !== null;
  const children = [{ key: "frame", tag: "rect", attributes: { class: "frame", x, y, width, height, rx: 6 } }];
  if (locked) {
    children.push(lock(x + 8, y + 5, one.state !== "open"));
    const title = one.key ?? keyOf(one.rows) ?? "row locks";
    children.push({ key: "key", tag: "text", attributes: { class: "key", x: x + 27, y: y + 16 }, text: cutKey(title, width - 32) });
  } else if (one.rows.some(({ id }) => id.startsWith("demo."))) {
    children.push({ key: "key", tag: "text", attributes: { class: "key none", x: x + 9, y: y + 16 }, text: "no lock" });
  }
  shown.forEach((row, index) => {
    const bounds = { x: x + 7, y: y + HEAD + index * step, width: width - 14, height: Math.max(step - 2.5, 9.5) };
    children.push(chip(`row${row.id}`, bounds, row.label.replace(/^external call (?=\w)/, "call "), row.group));
  });
  const words = { open: view.down ? "nobody sees it" : "nobody else sees it", committed: commitOf(one.rows), dissolved: "rolled back: nothing stays" }[one.state];
  const place_ = { x: x + width / 2, y: view.down ? y + height - 6 : y + height + 15, "text-anchor": "middle" };
  children.push({ key: "foot", tag: "text", attributes: { class: "foot", ...place_ }, text: view.down ? cut(words, width + 10) : words });
  return { key, tag: "g", attributes: { class: `tx ${one.state}` }, children };
}

const MET = {
  looks: () => ["looks for", "a record"],
  theirs: () => ["locked:", "wait"],
  record: ({ provisional }) => (provisional ? ["record: 202", "not final yet"] : ["record:", "same bytes"]),
};

/** How wide the pill with these words is. */
const pillOf = (words) => Math.ceil(Math.max(...words.map(({ length }) => length)) * LETTER + 9);

/** A transaction, or a single read, that met the closed lock or a record. */
function meeting(view, place, one, key, words, isBusy, left) {
  const width = pillOf(words);
  const at = place[one.metAt ?? one.from];
  if (isBusy) return label(view, key, "met", at, view.pg.from, one.lock === "theirs" ? "locked: wait" : words[0], view.down ? { dx: 4, dy: 3, anchor: "start" } : { dy: -5 });
  const [x, y] = point(view, at, view.pg.from);
  const corner = view.down ? { x: x + 2, y: y - 17 } : { x: left, y: y + 12 };
  const text = (index) => ({
    key: `text${index}`, tag: "text", attributes: { x: corner.x + width / 2, y: corner.y + 14 + index * 13, "text-anchor": "middle" }, text: words[index],
  });
  const rect = { key: "rect", tag: "rect", attributes: { ...corner, width, height: 34, rx: 5 } };
  return { key, tag: "g", attributes: { class: `pill ${one.lock}` }, children: [rect, text(0), text(1)] };
}

/** All transactions so far. */
export function transactions(view, { place, quiet }, state, last, now, crowded) {
  const { slots, count } = slotsOf(last.transactions, place, quiet);
  const boxes = last.transactions.filter(({ rows, from }) => rows.length > 0 && !quiet.has(from));
  let pill = -Infinity;
  return state.transactions.flatMap((one) => {
    const met = one.metAt ?? one.from;
    if (quiet.has(met)) return [];
    const key = `tx${one.from}`;
    const api = view.lanes[one.replica] + 8;
    const whole = boxes.find(({ from }) => from === one.from);
    if (whole) {
      const slot = slots.get(one.from);
      const [from, top] = [place[one.from] + 5, view.pg.from + (slot * (view.pg.to - view.pg.from)) / count];
      return [arrow(view, `begin${one.from}`, "own", [from, api], [from, top - 2]), box(view, place, one, whole, key, slot, count, now)];
    }
    const words = MET[one.lock]?.(one);
    if (!words) return [];
    // The pill is below its arrow, or between the boxes beside it.
    const [at, width] = [place[met], pillOf(words)];
    const least = Math.max(0, ...boxes.filter(({ to }) => to !== null && to <= met).map(({ to }) => place[to] + 5));
    const most = Math.min(view.width - 2, ...boxes.filter(({ from }) => from > met).map(({ from }) => place[from] - 5)) - width;
    const left = Math.min(Math.max(at - width / 2, Math.min(least, at - 8)), Math.max(most, at - width + 8));
    const isBusy = boxes.some(({ from, to }) => from <= met && (to ?? Infinity) >= met);
    const found = meeting(view, place, one, key, words, isBusy, Math.max(left, 0));
    const ask = arrow(view, `ask${one.from}`, "own quiet", [at, api], [at, view.pg.from + (found.tag === "g" ? 10 : -16)]);
    if (at - pill < width + 4) return found.tag === "g" || crowded ? [ask] : [];
    if (found.tag === "g") pill = at;
    return [ask, found];
  });
}
