// The place of each event on the time axis. A run takes some 30 ms of server time and then pauses for seconds. Drawn to scale,
// nothing could be read, so each step gets the room that its picture needs, and a pause grows with its logarithm.

/** The room before an event, in px at the natural size. Zero: the event has no picture. */
const ROOM = {
  run: 0, truth: 0, up: 20, died: 26, sent: 14, received: 24, waits: 6, begins: 18, claimed: 16, met_transaction: 20, met_record: 20,
  step: 12, commit: 26, rollback: 26, leased: 30, given_back: 8, call: 16, gateway: 40, reply_of_call: 40, answered: 34,
  no_answer: 54, dropped: 24, end: 36,
};
const STATEMENT = { withRow: 15, other: 7 };

/** With more clicks than this, the clicks move together. */
const CROWD = 3;
const CROWDED = { sent: 11, received: 4, waits: 2, answered: 14, met_record: 3, step: 3 };

/** A pause of 20 ms or more gets this many px for each factor of ten. */
const PAUSE = { across: 13, down: 22 };
const PAUSE_FROM = 20_000;

/** What a transaction needs so that its rows can be read, if the rest keeps the least part of its natural size. */
const BOX = { across: 138, from: 700, grows: 0.06, narrow: 130, part: 0.22, share: 0.66, least: 0.5, down: { head: 48, row: 19 } };

/** Only these are steps that a visitor sees: they have a picture and a sentence. */
const SHOWN = new Set([
  "up", "died", "sent", "dropped", "no_answer", "answered", "waits", "begins", "claimed", "met_transaction", "met_record", "commit",
  "rollback", "leased", "call", "gateway", "reply_of_call", "end",
]);

/** Whether the event is a step. Of the statements, those that write a row or lock one are, and the naive look for a record. */
const isStep = ({ what, row, verb, table }) =>
  SHOWN.has(what) || (what === "statement" && (Boolean(row) || verb === "lock" || table === "demo.records"));

/**
 * The indices of events that are neither drawn nor steps: a request that waits for another looks again and again. Only the
 * first look of each attempt tells anything.
 */
export function quietOf(last) {
  const quiet = new Set();
  const known = new Set();
  for (const one of last.transactions) {
    if (one.rows.length > 0 || one.to === null) {
      // The resolver takes its lease: the word at the bar says so.
      const isLease = one.to !== null && one.request === null && one.rows.every(({ group }) => group === "calls");
      if (isLease) for (const index of [one.from, ...one.statements, one.to]) quiet.add(index);
      continue;
    }
    const at = one.metAt ?? one.from;
    const number = (last.requests.get(one.request) ?? []).filter(({ sentAt }) => sentAt < at).length;
    const look = `${one.request} ${number} ${one.lock} ${one.provisional}`;
    const isFirst = ["theirs", "record", "looks"].includes(one.lock) && !known.has(look);
    known.add(look);
    for (const index of [one.from, ...one.statements, one.to]) if (!isFirst || index !== at) quiet.add(index);
    if (!isFirst && one.metAt !== undefined) quiet.add(one.metAt);
  }
  return quiet;
}

/** The indices of the steps. A replica that is up when the run begins is no step. */
export function stepsOf(events, last) {
  const firstSent = events.findIndex(({ what }) => what === "sent");
  const quiet = quietOf(last);
  return events.flatMap((event, index) => (isStep(event) && !quiet.has(index) && !(event.what === "up" && index < firstSent) ? [index] : []));
}

function roomOf(event, before, crowded, pause) {
  const { what, row } = event;
  const plain = what === "statement" ? (row ? STATEMENT.withRow : STATEMENT.other) : (ROOM[what] ?? 0);
  const room = crowded ? (CROWDED[what] ?? plain) : plain;
  const gap = event.t - before;
  return gap > PAUSE_FROM && room > 0 ? room + pause * (1 + Math.log10(gap / PAUSE_FROM)) : room;
}

/** The events inside transactions that have rows, one list for each. Of transactions at one time, the first one counts. */
function boxesOf(transactions, count, quiet) {
  const taken = new Set();
  const boxes = [];
  for (const { from, to, rows } of transactions) {
    const end = to ?? count - 1;
    if (rows.length === 0 || end <= from || taken.has(from + 1) || quiet.has(from)) continue;
    const inside = Array.from({ length: end - from }, (_, index) => from + 1 + index);
    for (const index of inside) taken.add(index);
    boxes.push({ inside, rows: rows.length });
  }
  return boxes;
}

const sumOf = (rooms) => rooms.reduce((sum, room) => sum + room, 0);

/**
 * `place[i]` is the place of event `i`, from `start`. Across, the run fills `length`: the transactions get what their rows need, and
 * the others share what is left. Down, the run takes what it needs. While a live run still grows, `expected` (the needs of a
 * similar run) keeps its beginning in place.
 */
export function scaleOf(events, last, { start, length, down, expected = null }) {
  const clicks = new Set(events.filter(({ what }) => what === "sent").map(({ request }) => request)).size;
  const quiet = quietOf(last);
  let before = 0;
  const rooms = events.map((event, index) => {
    if (quiet.has(index)) return 0;
    const room = roomOf(event, before, clicks > CROWD, down ? PAUSE.down : PAUSE.across);
    if (room > 0) before = event.t;
    return room;
  });
  const boxes = boxesOf(last.transactions, events.length, quiet);
  const inBoxes = new Set(boxes.flatMap(({ inside }) => inside));
  const needs = { boxes: Math.max(boxes.length, expected?.boxes ?? 0), others: 0 };
  needs.others = Math.max(sumOf(rooms.filter((_, index) => !inBoxes.has(index))), expected?.others ?? 0, 1);
  const left = (length - BOX.least * needs.others) / Math.max(needs.boxes, 1);
  const roomy = BOX.across + Math.max(length - BOX.from, 0) * BOX.grows;
  const across = Math.max(Math.min(roomy, left), Math.min(BOX.narrow, length * BOX.part, (length * BOX.share) / Math.max(needs.boxes, 1)));
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
  return { place, needs, quiet, end: Math.max(here, start) };
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
