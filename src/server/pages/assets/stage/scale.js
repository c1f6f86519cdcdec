// The place of each event on the time axis. A run takes some 30 ms of server time and then pauses for seconds. Drawn to scale,
// nothing could be read, so each step gets the room that its picture needs, and a pause grows with its logarithm.

/** The room before an event, in px at the natural size. Zero: the event has no picture. */
const ROOM = {
  run: 0, truth: 0, up: 8, died: 26, sent: 14, received: 24, waits: 6, begins: 18, claimed: 16, met_transaction: 20, met_record: 20,
  step: 12, commit: 26, rollback: 26, leased: 30, given_back: 8, call: 16, gateway: 40, reply_of_call: 40, answered: 34,
  no_answer: 34, dropped: 24, end: 12,
};
const STATEMENT = { withRow: 15, other: 7 };

/** With more clicks than this, the clicks move together. */
const CROWD = 3;
const CROWDED = { sent: 11, received: 4, waits: 2, answered: 14, met_record: 3, step: 3 };

/** A pause of 20 ms and more gets `PAUSE` px for each factor of ten. */
const PAUSE = 15;
const PAUSE_FROM = 20_000;

/** What a transaction needs so that its rows can be read. All of them together take at most a share of the picture. */
const BOX = { across: 138, share: 0.6, down: { head: 48, row: 19 } };

/** Only these are steps that a visitor sees: they have a picture and a sentence. */
const SHOWN = new Set([
  "up", "died", "sent", "dropped", "no_answer", "answered", "waits", "begins", "claimed", "met_transaction", "met_record", "commit",
  "rollback", "leased", "call", "gateway", "reply_of_call", "end",
]);

/** Whether the event is a step. Of the statements, those that write a row or lock one are. */
export const isStep = ({ what, row, verb }) => SHOWN.has(what) || (what === "statement" && (Boolean(row) || verb === "lock"));

/** The indices of the steps. A replica that is up when the run begins is no step. */
export function stepsOf(events) {
  const firstSent = events.findIndex(({ what }) => what === "sent");
  return events.flatMap((event, index) => (isStep(event) && !(event.what === "up" && index < firstSent) ? [index] : []));
}

function roomOf(event, before, crowded) {
  const { what, row } = event;
  const plain = what === "statement" ? (row ? STATEMENT.withRow : STATEMENT.other) : (ROOM[what] ?? 0);
  const room = crowded ? (CROWDED[what] ?? plain) : plain;
  const gap = event.t - before;
  return gap > PAUSE_FROM && room > 0 ? room + PAUSE * Math.log10(gap / PAUSE_FROM) + 6 : room;
}

/** The events inside transactions that have rows, one list for each. Of transactions at one time, the first one counts. */
function boxesOf(transactions, count) {
  const taken = new Set();
  const boxes = [];
  for (const { from, to, rows } of transactions) {
    const end = to ?? count - 1;
    if (rows.length === 0 || end <= from || taken.has(from + 1)) continue;
    const inside = Array.from({ length: end - from }, (_, index) => from + 1 + index);
    for (const index of inside) taken.add(index);
    boxes.push({ inside, rows: rows.length });
  }
  return boxes;
}

const sumOf = (rooms) => rooms.reduce((sum, room) => sum + room, 0);

/**
 * `place[i]` is where event `i` stands, from `start`. Across, the run fills `length`: the transactions get what their rows need, and
 * the rest shares what is left. Down, the run takes what it needs. While a live run still grows, `expected` (the needs of a
 * similar run) keeps its beginning in place.
 */
export function scaleOf(events, last, { start, length, down, expected = null }) {
  const clicks = new Set(events.filter(({ what }) => what === "sent").map(({ request }) => request)).size;
  const rooms = events.map((event, index) => roomOf(event, events[index - 1]?.t ?? 0, clicks > CROWD));
  const boxes = boxesOf(last.transactions, events.length);
  const inBoxes = new Set(boxes.flatMap(({ inside }) => inside));
  const needs = { boxes: Math.max(boxes.length, expected?.boxes ?? 0), others: 0 };
  needs.others = Math.max(sumOf(rooms.filter((_, index) => !inBoxes.has(index))), expected?.others ?? 0, 1);
  const across = Math.min(BOX.across, (length * BOX.share) / Math.max(needs.boxes, 1));
  const factor = down ? 1 : (length - needs.boxes * across) / needs.others;
  for (const index of rooms.keys()) if (!inBoxes.has(index)) rooms[index] *= factor;
  for (const { inside, rows } of boxes) {
    const wanted = down ? BOX.down.head + BOX.down.row * rows : across;
    const has = sumOf(inside.map((index) => rooms[index]));
    for (const index of inside) rooms[index] *= wanted / Math.max(has, 1);
  }
  const place = [];
  let here = start;
  for (const room of rooms) place.push((here += room));
  return { place, needs, end: Math.max(here, start) };
}

/** How long the player stays in a step at a pace, in ms of the visitor's time: as long as the server took, within bounds. */
const PACES = {
  1: { least: 0, most: 4_000 },
  5: { least: 130, most: 1_200 },
  20: { least: 430, most: 1_500 },
};
/** The gesture gets time: the rows are dashed, and then they are solid. */
const LONGER = { commit: 2.4, died: 2.2, gateway: 1.8, dropped: 1.6, no_answer: 1.5, rollback: 2, end: 1.2, claimed: 1.5 };
const SHORTER = { waits: 0.3, sent: 0.8 };

export function stay(events, step, next, pace, crowded = false) {
  const { least, most } = PACES[pace];
  const real = ((events[next].t - events[step].t) / 1000) * pace;
  const { what } = events[step];
  const weight = LONGER[what] ?? SHORTER[what] ?? (crowded && ["sent", "answered", "met_record"].includes(what) ? 0.3 : 1);
  return Math.max(Math.min(real, most), least * weight);
}

export const milliseconds = (t) => (t < 999_500 ? `${(t / 1000).toFixed(1)} ms` : `${(t / 1_000_000).toFixed(2)} s`);
