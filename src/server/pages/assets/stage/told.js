// What is sent at a step, as lines of text: SQL to PostgreSQL, a request to the server, a call to the gateway.

import { money } from "./figures.js";

/** So many lines fit below the sentence. */
const LINES = 3;

export function told(events, index, state, last) {
  const event = events[index];
  return (OF[event.what] ?? (() => ({ lines: [], which: "" })))(event, state, { events, index, last });
}

const plain = (...lines) => ({ lines: lines.filter(Boolean), current: 0, which: "" });

function transaction(event, state, { events, last }) {
  const one = state.transactions.findLast(({ tx, replica }) => tx === event.tx && replica === event.replica);
  if (!one) return plain();
  const whole = last.transactions.find(({ from }) => from === one.from) ?? one;
  const all = ["BEGIN", ...one.statements.map((at) => events[at].sql)];
  if (event.what === "commit") all.push("COMMIT");
  if (event.what === "rollback") all.push("ROLLBACK");
  const lines = all.slice(-LINES);
  const total = whole.statements.length;
  const which = event.what === "statement" ? `statement ${one.statements.length} of ${total}` : "";
  return { lines, current: lines.length - 1, which };
}

const OF = {
  begins: transaction,
  claimed: transaction,
  statement: transaction,
  commit: transaction,
  rollback: transaction,
  met_transaction: transaction,
  met_record: (event) => plain(`SELECT .. FROM idempotency_keys WHERE key = '${event.key}'`),
  sent: ({ method, path, key }) => plain(`${method ?? "POST"} ${path ?? "/v1/charges"}`, `Idempotency-Key: ${key}`),
  answered: ({ status, replayed, bytes, digest }) => plain(`HTTP/1.1 ${status}`, replayed ? "Idempotency-Replayed: true" : null, digest ? `${bytes} bytes, SHA-256 ${digest}…` : null),
  waits: (_, state) => plain(`single flight: ${state.waiting.length} in memory, 0 connections, 0 transactions`),
  call: ({ kind, reference }) => kind === "look_up"
    ? plain("GET /v1/payment_intents", `metadata.reference ${reference}`)
    : plain("POST /v1/payment_intents", `Idempotency-Key: ${reference}`),
  gateway: ({ kind, amount, currency, payment_intent: id }) => plain(`the gateway's books: ${kind === "capture" ? "a new line" : "no new line"}`, id ? `${id}  ${amount ? money(amount, currency) : ""}` : null),
  no_answer: () => plain("the connection broke, or no reply came in time"),
  dropped: ({ of }) => plain(`lost: the ${of}`),
  reply_of_call: ({ status }) => plain(`HTTP/1.1 ${status} from the gateway`),
  died: ({ at }) => plain(at ? `kill -9 at ${at}` : "kill -9"),
  leased: ({ attempt }) => plain("SELECT .. FROM external_calls WHERE next_attempt_at <= now() .. FOR UPDATE SKIP LOCKED", `lease: attempt ${attempt}`),
  end: ({ charged, purchases }) => plain(`captures in the gateway's books: ${charged}`, `purchases wanted: ${purchases}`),
};
