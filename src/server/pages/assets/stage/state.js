// The state of a run after some of its events: a pure function, so scrubbing is free and node can test the stage.
//
// Everything that has a place in time holds the index of its event (`at`, `from`, `to`). `scale.js` gives an index its place.

/** The five groups of rows that the page shows, by a word in the table's name. */
const GROUPS = [
  ["calls", /external_call/],
  ["records", /idempotency|record|key/],
  ["charges", /charge/],
  ["orders", /order/],
  ["entitlements", /entitlement/],
];

/** Ids are compared by their end, since a statement's row has only the end of an id. */
const TAIL = 6;

export const groupOf = (table) => GROUPS.find(([, name]) => name.test(table ?? ""))?.[0] ?? null;
const tail = (id) => String(id ?? "").slice(-TAIL);
const word = (value) => (value && typeof value === "object" ? String(value.status ?? Object.values(value)[0] ?? "") : (value ?? null));

/** How many events have happened at time `t`, in microseconds. */
export function countAt(events, t) {
  let [low, high] = [0, events.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (events[middle].t <= t) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * The events as they happened. Whoever starts the replicas notices a death a little later than it happened: right after the kill
 * point that the replica reported last.
 */
export function ordered(events) {
  const found = [];
  for (const event of events) {
    const step = event.what === "died" ? found.findLastIndex((one) => one.replica === event.replica && ["step", "up"].includes(one.what)) : -1;
    if (step >= 0 && found[step].point === event.at && found[step].what === "step") found.splice(step + 1, 0, { ...event, t: found[step].t });
    else found.push(event);
  }
  return found;
}

export const stateAt = (events, t) => stateAfter(events, countAt(events, t));

export function stateAfter(events, count) {
  const state = {
    count,
    settings: {},
    purchases: [],
    price: null,
    zero: null,
    replicas: {},
    requests: new Map(),
    transactions: [],
    calls: [],
    waiting: [],
    rooms: [],
    leases: [],
    drops: [],
    steps: [],
    truth: { records: [], calls: [], charges: [], orders: [], entitlements: [], books: [], unexplained: 0 },
    committed: [],
    end: null,
  };
  for (let at = 0; at < count; at += 1) HEARD[events[at].what]?.(state, events[at], at);
  return state;
}

const openOf = (state, replica) => state.transactions.filter((one) => one.replica === replica && one.state === "open");
const transaction = (state, { replica, tx }) =>
  state.transactions.findLast((one) => one.replica === replica && one.tx === tx && one.state === "open");

function tryOf(state, { request, try: number }) {
  const tries = state.requests.get(request) ?? [];
  return number === undefined ? tries.at(-1) : tries.find((one) => one.number === number);
}

function leavesRoom(state, replica, request, at) {
  const seat = state.waiting.findIndex((one) => one.replica === replica && one.request === request);
  if (seat < 0) return;
  state.waiting.splice(seat, 1);
  const room = state.rooms.findLast((one) => one.replica === replica && one.to === null);
  if (room && !state.waiting.some((one) => one.replica === replica)) room.to = at;
}

function end(state, event, at, how) {
  const one = transaction(state, event);
  if (!one) return;
  one.state = how;
  one.to = at;
  if (how !== "committed") return;
  // A newer COMMIT of the same row counts.
  state.committed = state.committed.filter((row) => !one.rows.some((newer) => newer.group === row.group && tail(newer.id) === tail(row.id)));
  state.committed.push(...one.rows);
}

/** Whether a look into the database has the row as it was committed. */
function isIn(truth, row) {
  const shape = TRUE_ROWS[row.group];
  return (truth[row.group] ?? []).map(shape).some(({ id, value }) => tail(id) === tail(row.id) && value === row.after);
}

function met(lock) {
  return (state, event, at) => {
    const request = event.request ?? transaction(state, event)?.request;
    leavesRoom(state, event.replica, request, at);
    let one = transaction(state, event);
    if (!one) {
      one = { tx: null, replica: event.replica, request, from: at, to: at, state: "committed", rows: [], statements: [] };
      state.transactions.push(one);
    }
    Object.assign(one, { lock, key: event.key, provisional: event.provisional ?? false, metAt: at });
  };
}

const HEARD = {
  run(state, event) {
    Object.assign(state, { settings: event.settings ?? {}, purchases: event.purchases ?? [], price: event.price ?? null });
  },
  up(state, { replica }, at) {
    (state.replicas[replica] ??= { bars: [] }).bars.push({ from: at, to: null, point: null });
  },
  died(state, { replica, at: point }, at) {
    const bar = state.replicas[replica]?.bars.at(-1);
    if (bar) Object.assign(bar, { to: at, point: point ?? null });
    for (const one of openOf(state, replica)) Object.assign(one, { state: "dissolved", to: at });
    for (const call of state.calls) if (call.replica === replica && call.replyAt === null) Object.assign(call, { lostAt: call.lostAt ?? at, caller: "died" });
    state.waiting = state.waiting.filter((one) => one.replica !== replica);
    for (const room of state.rooms) if (room.replica === replica) room.to ??= at;
    for (const tries of state.requests.values()) {
      for (const one of tries) if (one.replica === replica && one.answeredAt === null) one.brokenAt ??= at;
    }
  },
  sent(state, event, at) {
    state.zero ??= event.t;
    const tries = state.requests.get(event.request) ?? [];
    tries.push({
      request: event.request, number: event.try ?? tries.length + 1, replica: event.replica ?? "a", key: event.key, sentAt: at,
      receivedAt: null, answeredAt: null, noAnswerAt: null, brokenAt: null, dropped: null,
    });
    state.requests.set(event.request, tries);
  },
  received(state, event, at) {
    const one = tryOf(state, event);
    if (one) one.receivedAt = at;
  },
  dropped(state, event, at) {
    state.drops.push({ of: event.of, at, request: event.request ?? null });
    if (event.of === "request" || event.of === "reply") {
      const one = tryOf(state, event);
      if (one) one.dropped = { of: event.of, at };
      return;
    }
    const call = event.call === undefined ? state.calls.at(-1) : state.calls.findLast((one) => one.call === event.call);
    if (call) call.dropped = { of: event.of, at };
  },
  no_answer(state, event, at) {
    const one = tryOf(state, event);
    if (one) one.noAnswerAt = at;
  },
  answered(state, event, at) {
    leavesRoom(state, event.replica, event.request, at);
    const one = tryOf(state, event);
    const { status, replayed, bytes, digest, location, retry } = event;
    if (one) Object.assign(one, { answeredAt: at, status, replayed, bytes, digest, location, retry });
  },
  waits(state, { replica, request }, at) {
    // The next leader may let it wait again.
    if (state.waiting.some((one) => one.replica === replica && one.request === request)) return;
    state.waiting.push({ replica, request });
    const room = state.rooms.findLast((one) => one.replica === replica && one.to === null);
    if (room) room.seats.push(request);
    else state.rooms.push({ replica, from: at, to: null, seats: [request] });
  },
  begins(state, event, at) {
    leavesRoom(state, event.replica, event.request, at);
    state.transactions.push({
      tx: event.tx, replica: event.replica, request: event.request ?? null, from: at, to: null, state: "open", lock: null,
      key: null, rows: [], statements: [],
    });
  },
  claimed(state, event) {
    const one = transaction(state, event);
    if (one) Object.assign(one, { lock: "ours", key: event.key });
  },
  met_transaction: met("theirs"),
  met_record: met("record"),
  statement(state, event, at) {
    const one = transaction(state, event);
    if (!one) return;
    one.statements.push(at);
    if (event.verb === "select" && event.table === "demo.records") Object.assign(one, { lock: "looks", metAt: at });
    const group = groupOf(event.table);
    if (!one.lock && event.verb === "lock" && group !== "records") one.lock = "row";
    if (!event.row || !group) return;
    const row = { at, group, id: event.row.id, label: event.row.label, before: word(event.row.before), after: word(event.row.after) };
    const again = one.rows.find((other) => other.id === row.id && other.group === group);
    if (again) Object.assign(again, { label: row.label, after: row.after });
    else one.rows.push(row);
  },
  step(state, { replica, point }, at) {
    state.steps.push({ replica, point, at });
  },
  commit: (state, event, at) => end(state, event, at, "committed"),
  rollback: (state, event, at) => end(state, event, at, "dissolved"),
  leased(state, { replica, attempt }, at) {
    state.leases.push({ replica, attempt, at, to: null });
  },
  given_back(state, { replica }, at) {
    const lease = state.leases.findLast((one) => one.replica === replica && one.to === null);
    if (lease) lease.to = at;
  },
  call(state, event, at) {
    state.calls.push({
      call: event.call, replica: event.replica, kind: event.kind, reference: event.reference, at, gateway: null, replyAt: null,
      status: null, lostAt: null, dropped: null,
    });
  },
  gateway(state, event, at) {
    const call = state.calls.findLast((one) => one.call === event.call);
    const { kind, amount, currency, payment_intent: id } = event;
    // "lost": the call ended without an answer. What the books have of it stays.
    if (kind === "lost" && call?.gateway) call.lostAt ??= at;
    else if (call) call.gateway = { kind, at, amount, currency, id };
    if (kind === "capture" && !state.truth.books.some((line) => line.id === id)) {
      state.truth = { ...state.truth, books: [...state.truth.books, { id, amount, currency }] };
    }
  },
  reply_of_call(state, event, at) {
    const call = state.calls.findLast((one) => one.call === event.call);
    if (call) Object.assign(call, { replyAt: at, status: event.status });
  },
  truth(state, { t: _t, what: _what, ...rows }) {
    const captured = coinsOf(state).map(({ gateway: { id, amount, currency } }) => ({ id, amount, currency }));
    const books = [...(rows.books ?? [])];
    for (const line of captured) if (!books.some(({ id }) => id === line.id)) books.push(line);
    state.truth = { ...state.truth, ...rows, books };
    // A look that arrives after a COMMIT may have begun just before it. So a row waits for the second look.
    state.committed = state.committed.filter((row) => !isIn(state.truth, row) && (row.looks = (row.looks ?? 0) + 1) < 2);
  },
  end(state, event, at) {
    state.end = { ...event, at };
  },
};

/** What the truth says of each group, as rows of one shape. */
const TRUE_ROWS = {
  records: ({ key, status, bytes }) => ({ id: key, label: key, value: String(status), bytes }),
  calls: ({ reference, attempts, resolved }) => ({ id: reference, label: "external call", value: resolved ? "resolved" : `attempt ${attempts}` }),
  charges: ({ id, status }) => ({ id, label: "charge", value: status }),
  orders: ({ id, status }) => ({ id, label: "order", value: status }),
  entitlements: ({ id, feature }) => ({ id, label: `entitlement ${feature}`, value: "granted" }),
};

const NAMES = { records: "record", calls: "external call", charges: "charge", orders: "order", entitlements: "entitlement" };

/** The end of the id, which two rows of one group never share in a run. */
const sameRow = (one, row) => one.group === row.group && tail(one.id) === tail(row.id);

/**
 * The rows to show: committed ones, then the dashed ones of open transactions. A row that was committed after the newest look
 * into the database is solid at once, in the frame of its COMMIT.
 */
export function rowsOf(state) {
  const rows = [];
  for (const [group, shape] of Object.entries(TRUE_ROWS)) {
    for (const one of state.truth[group] ?? []) rows.push({ group, next: null, tx: null, ...shape(one) });
  }
  for (const row of state.committed) {
    const known = rows.find((one) => sameRow(one, row));
    if (known) known.value = row.after ?? known.value;
    else rows.push({ group: row.group, id: row.id, label: nameOf(row), value: row.after, next: null, tx: null });
  }
  for (const one of state.transactions.filter(({ state: how }) => how === "open")) {
    for (const row of one.rows) {
      const known = rows.find((other) => sameRow(other, row));
      const dashed = { next: row.after ?? row.label, tx: `${one.replica}${one.from}` };
      if (known) Object.assign(known, dashed);
      else rows.push({ group: row.group, id: row.id, label: nameOf(row), value: null, ...dashed });
    }
  }
  const order = Object.keys(TRUE_ROWS);
  return rows.sort((one, other) => order.indexOf(one.group) - order.indexOf(other.group));
}

function nameOf(row) {
  if (row.group === "records") return String(row.id).split(":").at(-1);
  return row.group === "entitlements" ? row.label : NAMES[row.group];
}

/** The coins: the captures that the gateway's own books have. A repeated call adds none. */
export function coinsOf(state) {
  return state.calls.filter(({ gateway }) => gateway?.kind === "capture");
}
