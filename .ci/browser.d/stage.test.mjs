// The stage's logic without a browser: the state at a time, the scale, the addresses. `node --test .ci/browser.d/stage.test.mjs`

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

const stage = new URL("../../src/server/pages/assets/stage/", import.meta.url);
const load = (name) => import(new URL(name, stage));
const { coinsOf, countAt, ordered, rowsOf, stateAfter, stateAt } = await load("state.js");
const { scaleOf, stay, stepsOf } = await load("scale.js");
const { BEATS, DEFAULTS, beatOf, linkOf, read } = await load("beats.js");
const { parse } = await load("live.js");
const { draw } = await load("draw.js");
const { viewOf } = await load("geometry.js");
const { composed, pictureView } = await load("picture.js");
const { sentence } = await load("words.js");
const { told } = await load("told.js");

const frozen = (value) => {
  if (value && typeof value === "object") Object.values(Object.freeze(value)).forEach(frozen);
  return value;
};

/** A run from short lines; the time is the place in the list, in ms. */
const run = (...events) => frozen(events.map((event, index) => ({ t: index * 1000, replica: "a", ...event })));

const begin = [
  { what: "run", settings: { record: "same" }, purchases: [{ key: "pay-1", order_id: "o-000001" }], price: { amount: 4900, currency: "EUR" } },
  { what: "up" },
  { what: "truth", records: [], calls: [], charges: [], orders: [{ id: "o-000001", status: "pending" }], entitlements: [], books: [], unexplained: 0 },
  { what: "sent", request: 1, try: 1, key: "pay-1" },
  { what: "received", request: 1, try: 1 },
  { what: "begins", tx: 1, request: 1 },
  { what: "claimed", tx: 1, key: "pay-1" },
  { what: "statement", tx: 1, verb: "insert", table: "charges", sql: "INSERT", row: { id: "charges:…aaaaaa", label: "charge processing", before: null, after: "processing" } },
  { what: "statement", tx: 1, verb: "update", table: "orders", sql: "UPDATE", row: { id: "orders:…000001", label: "order paid", before: "pending", after: "paid" } },
  { what: "statement", tx: 1, verb: "insert", table: "idempotency_keys", sql: "INSERT", row: { id: "idempotency_keys:pay-1", label: "record 202", before: null, after: "202" } },
];
const facts = (state) => Object.fromEntries(rowsOf(state).map(({ group, value, next }) => [group, [value, next]]));
const open = { charges: [null, "processing"], orders: ["pending", "paid"], records: [null, "202"] };
const before = { orders: ["pending", null] };

test("rows are dashed until COMMIT, and then all of them are solid in one frame", () => {
  const events = run(...begin, { what: "commit", tx: 1 });
  const states = events.map((_, index) => stateAfter(events, index + 1));
  assert.deepEqual(facts(states[9]), open);
  for (const state of states.slice(0, 10)) assert.deepEqual(state.committed, []);
  assert.deepEqual(facts(states[10]), { charges: ["processing", null], orders: ["paid", null], records: ["202", null] });
  assert.equal(states[9].transactions[0].state, "open");
  assert.equal(states[10].transactions[0].state, "committed");
});

test("all rows are gone in one frame when the process dies, and when the transaction rolls back", () => {
  for (const end of [{ what: "died", at: "before-commit-1" }, { what: "rollback", tx: 1 }]) {
    const events = run(...begin, end);
    assert.deepEqual(facts(stateAfter(events, 10)), open, end.what);
    const after = stateAfter(events, 11);
    assert.deepEqual(facts(after), before, end.what);
    assert.equal(after.transactions[0].state, "dissolved", end.what);
  }
});

test("a death dissolves only what its own replica has open", () => {
  const events = run(...begin, { what: "begins", tx: 2, replica: "b", request: 2 }, { what: "died", replica: "b" });
  assert.deepEqual(stateAfter(events, 12).transactions.map(({ state }) => state), ["open", "dissolved"]);
  assert.deepEqual(facts(stateAfter(events, 12)), open);
});

test("a replica that starts again may use the number of a dead transaction", () => {
  const events = run(...begin, { what: "died" }, { what: "up" }, { what: "begins", tx: 1, request: 1 }, { what: "commit", tx: 1 });
  assert.deepEqual(stateAfter(events, 14).transactions.map(({ state, rows }) => [state, rows.length]), [["dissolved", 3], ["committed", 0]]);
});

test("a look that missed a COMMIT does not take its rows away", () => {
  const late = { ...begin[2] };
  const events = run(...begin, { what: "commit", tx: 1 }, late);
  assert.deepEqual(facts(stateAfter(events, 12)).charges, ["processing", null]);
  const twice = run(...begin, { what: "commit", tx: 1 }, late, late);
  assert.deepEqual(facts(stateAfter(twice, 13)), before, "two looks are right");
});

test("there is a coin for a capture, and none for a repeated call, a look or a decline", () => {
  for (const [kind, coins] of [["capture", 1], ["repeat", 0], ["look", 0], ["decline", 0], ["lost", 0]]) {
    const events = run(...begin, { what: "call", call: 1, kind: "charge", reference: "r" }, { what: "gateway", call: 1, kind, amount: 4900, currency: "EUR", payment_intent: "pi_1" });
    assert.equal(coinsOf(stateAfter(events, 11)).length, 0, `${kind}: none before the books have it`);
    const state = stateAfter(events, 12);
    assert.equal(coinsOf(state).length, coins, kind);
    assert.equal(state.truth.books.length, coins, kind);
  }
});

test("a call that ends without an answer keeps its coin", () => {
  const gateway = { what: "gateway", call: 1, kind: "capture", amount: 4900, currency: "EUR", payment_intent: "pi_1" };
  const events = run(...begin, { what: "call", call: 1 }, gateway, { what: "gateway", call: 1, kind: "lost" });
  const state = stateAfter(events, 13);
  assert.deepEqual([coinsOf(state).length, state.calls[0].lostAt], [1, 12]);
  assert.match(sentence(events[12], state), /can't know that the money moved/);
});

test("a line of the books that the look has, too, counts once", () => {
  const gateway = { what: "gateway", call: 1, kind: "capture", amount: 4900, currency: "EUR", payment_intent: "pi_1" };
  const truth = { ...begin[2], books: [{ id: "pi_1", amount: 4900, currency: "EUR" }] };
  for (const events of [run(...begin, { what: "call", call: 1 }, gateway, truth), run(...begin, { what: "call", call: 1 }, truth, gateway)]) {
    assert.equal(stateAfter(events, events.length).truth.books.length, 1);
  }
});

test("a duplicate sits in the waiting room until it goes on", () => {
  const events = run(...begin, { what: "sent", request: 2, try: 1 }, { what: "waits", request: 2 }, { what: "waits", request: 3 }, { what: "met_record", request: 2, tx: null, key: "pay-1" }, { what: "answered", request: 3, try: 1 });
  const waiting = (count) => stateAfter(events, count).waiting.map(({ request }) => request);
  assert.deepEqual([waiting(11), waiting(12), waiting(13), waiting(14), waiting(15)], [[], [2], [2, 3], [3], []]);
  assert.deepEqual(stateAfter(events, 15).rooms.map(({ seats, from, to }) => [seats, from, to]), [[[2, 3], 11, 14]]);
});

const recordings = BEATS.filter(({ recording }) => !recording).map(({ name }) => [name, frozen(ordered(parse(readFileSync(new URL(`recordings/${name}.jsonl`, stage), "utf8"))))]);

test("scrubbing is pure: a time has one state, and events stay as they are", () => {
  for (const [name, events] of recordings) {
    for (const event of events.filter((_, index) => index % 7 === 0)) {
      const state = stateAt(events, event.t);
      stateAt(events, events.at(-1).t);
      assert.deepEqual(stateAt(events, event.t), state, name);
    }
    assert.equal(countAt(events, -1), 0);
    assert.equal(countAt(events, Infinity), events.length);
  }
});

test("every recording ends as its beat says, by the gateway's books", () => {
  for (const [name, events] of recordings) {
    const end = stateAfter(events, events.length);
    const charged = ["no-key", "record-apart"].includes(name) ? 2 : 1;
    assert.equal(end.end?.charged, charged, name);
    assert.equal(coinsOf(end).length, charged, `${name}: coins`);
    assert.equal(end.truth.books.length, charged, `${name}: books`);
    assert.deepEqual(end.transactions.filter(({ state }) => state === "open"), [], `${name}: nothing is open`);
  }
});

test("what the COMMITs made solid is what the last look into the database finds", () => {
  for (const [name, events] of recordings) {
    const last = stateAfter(events, events.length);
    const committed = new Map();
    for (const { state, rows, to } of last.transactions) if (state === "committed") for (const row of rows) committed.set(row.id, { ...row, to });
    const seen = rowsOf({ ...last, committed: [] });
    assert.ok(committed.size >= 2, name);
    for (const row of committed.values()) {
      const same = seen.find(({ group, id }) => group === row.group && String(id).slice(-6) === row.id.slice(-6));
      assert.equal(same?.value, row.after, `${name}: ${row.id}`);
    }
  }
});

test("a death is told where it happened, right after its kill point", () => {
  const events = run({ what: "up" }, { what: "step", point: "after-call" }, { what: "no_answer", request: 1 }, { what: "died", at: "after-call" }, { what: "up" });
  assert.deepEqual(ordered(events).map(({ what, t }) => [what, t]), [["up", 0], ["step", 1000], ["died", 1000], ["no_answer", 2000], ["up", 4000]]);
  const other = run({ what: "step", point: "before-call" }, { what: "no_answer" }, { what: "died", at: "after-call" });
  assert.deepEqual(ordered(other).map(({ what }) => what), ["step", "no_answer", "died"]);
});

test("a stream that breaks anywhere can be drawn, across and down", () => {
  for (const [name, events] of recordings) {
    for (let count = 1; count <= events.length; count += 1) {
      const part = events.slice(0, count);
      const last = stateAfter(part, count);
      for (const down of [false, true]) {
        const view = viewOf({ width: 830, height: 338, down, replicas: last.settings.replicas });
        const scale = scaleOf(part, last, view);
        const pictures = draw(part, last, last, scale, view, scale.place.at(-1));
        const text = JSON.stringify(pictures);
        assert.ok(!/NaN|undefined|Infinity/.test(text), `${name}, ${count} events: ${text.match(/.{60}(NaN|undefined|Infinity).{20}/)?.[0]}`);
        const keys = pictures.map(({ key }) => key);
        assert.equal(new Set(keys).size, keys.length, `${name}, ${count} events: every picture has its own key`);
      }
    }
  }
  assert.deepEqual(parse('{"t":0}\n{"t":1,"wh'), [{ t: 0 }], "half a line is left out");
});

test("time goes one way on the axis, and the run fits across", () => {
  for (const [name, events] of recordings) {
    const last = stateAfter(events, events.length);
    const view = viewOf({ width: 830, height: 338, down: false, replicas: last.settings.replicas });
    const { place, end } = scaleOf(events, last, view);
    place.forEach((at, index) => assert.ok(index === 0 || at >= place[index - 1], name));
    assert.ok(end <= view.start + view.length + 0.01, `${name} ends at ${end}`);
  }
});

test("every step has a sentence and takes a time within bounds", () => {
  for (const [name, events] of recordings) {
    const last = stateAfter(events, events.length);
    const steps = stepsOf(events, last);
    steps.forEach((index, step) => {
      const state = stateAfter(events, index + 1);
      const words = sentence(events[index], state);
      assert.match(words, /^[A-Z].*[.?]$/, `${name}: ${events[index].what}`);
      assert.ok(!/undefined|null|NaN/.test(words), `${name}: ${words}`);
      assert.ok(!/undefined|null|NaN/.test(told(events, index, state, last).lines.join()), `${name}: ${events[index].what}`);
      if (step === 0) return;
      for (const [pace, least, most] of [[1, 0, 4000], [5, 0, 1200], [20, 0, 1500]]) {
        const time = stay(events, steps[step - 1], index, pace);
        assert.ok(time >= least && time <= most, `${name}: ${time} at 1:${pace}`);
      }
    });
  }
});

test("the saved picture has the rows, the coins and the words of its moment, at each step", () => {
  const all = (parts) => parts.flatMap((part) => [part, ...all(part.children ?? [])]);
  const has = (parts, word) => parts.filter(({ attributes }) => String(attributes?.class ?? "").split(" ").includes(word));
  for (const [name, events] of recordings) {
    const last = stateAfter(events, events.length);
    const { view, scale } = pictureView(events, last);
    for (const index of stepsOf(events, last)) {
      const state = stateAfter(events, index + 1);
      const words = sentence(events[index], state);
      const picture = composed({ events, last, state, view, scale, now: scale.place[index] }, { title: name, sentence: words, when: "" });
      const parts = all(picture.parts);
      assert.equal(has(parts, "coin").length, coinsOf(state).length, `${name}, ${index}: coins`);
      const rows = state.transactions.filter(({ from }) => !scale.quiet.has(from)).flatMap((one) => one.rows);
      assert.equal(has(parts, "chip").length, rows.length, `${name}, ${index}: rows`);
      const lines = has(parts, "caption");
      assert.equal(lines.map(({ text }) => text).join(" "), words, `${name}, ${index}: the sentence`);
      for (const { attributes: { y }, text } of lines) assert.ok(y < picture.height - 20 && text.length < 90, `${name}, ${index}: ${text}`);
    }
  }
});

test("the last sentence says why", () => {
  const why = {
    "no-key": /a new key each/, "one-key": /got the stored answer/, "ten-clicks": /got the stored answer/, "crash-before-commit": /the retry was the first to pay/,
    "crash-after-capture": /repeated with the same key/, "two-replicas": /got the stored answer/, "record-apart": /not written together/,
  };
  for (const [name, events] of recordings) assert.match(sentence(events.at(-1), stateAfter(events, events.length)), why[name], name);
});

test("an address says the settings, and what it does not understand stays at its default", () => {
  const all = [
    { ...DEFAULTS },
    { ...DEFAULTS, clicks: 7, key: "click", spacing_ms: 0, replicas: 2, gateway: "lost-reply", record: "apart", drop: "answer" },
    { ...DEFAULTS, replicas: 2, kill: { at: "after-call", replica: "b" } },
    ...BEATS.map(({ settings }) => ({ ...DEFAULTS, ...settings })),
  ];
  for (const settings of all) assert.deepEqual(read(`#${linkOf(settings)}`).settings, settings);
  for (const { name, recording } of BEATS) {
    const { settings } = read(`#${name}`);
    if (!recording) assert.equal(beatOf(settings).name, name);
  }
  assert.deepEqual(read("#clicks=99&key=__proto__&kill=x&replicas=3&spacing=-1").settings, DEFAULTS);
  assert.equal(read(""), null);
  assert.equal(read("#nowhere"), null);
});
