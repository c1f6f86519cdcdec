// "What is true at this moment": the rows of the database, the dashed ones of open transactions, and the gateway's books.

import { make, say, byId } from "./dom.js";
import { money, often } from "./figures.js";
import { rowsOf } from "./state.js";

const HEADS = { records: "idempotency_keys", calls: "external_calls", charges: "charges, orders, entitlements" };
const NAIVE = { records: "demo.records, written afterwards", charges: "demo.charges" };

/** The rows that fit without moving what is below. More rows of a group become one line. */
const ROOM = 7;

const ending = (id) => `…${String(id).slice(-6)}`;

function groupsOf(rows) {
  const tables = new Map([["records", []], ["calls", []], ["charges", []]]);
  for (const row of rows) tables.get(tables.has(row.group) ? row.group : "charges").push(row);
  return [...tables].filter(([name, list]) => list.length > 0 || name !== "calls");
}

/** Many rows of one kind as one line: `10 charges: 10 × succeeded`. If some of them are not committed: `1 of 10 charges: processing → succeeded`. */
function folded(list) {
  return [...Map.groupBy(list, ({ group }) => group)].map(([group, rows]) => {
    if (rows.length === 1) return rows[0];
    const open = rows.filter(({ next }) => next !== null);
    if (open.length > 0) return { ...open[0], label: `${open.length} of ${rows.length} ${group}`, many: true };
    return { group, label: `${rows.length} ${group}`, id: "", value: countOf(rows), next: null, tx: null, many: true };
  });
}

function countOf(rows) {
  const counts = new Map();
  for (const { value } of rows) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts].map(([value, count]) => `${count} × ${value}`).join(", ");
}

function rowElement(row) {
  const label = row.group === "records" || row.many || row.group === "entitlements" || row.group === "calls" ? row.label : `${row.label} ${ending(row.id)}`;
  const change = row.next !== null && row.next !== row.value;
  const value = change
    ? [make("span", { class: "was" }, row.value ?? "–"), make("span", { class: "turns" }, "→"), make("strong", {}, row.next)]
    : [make("strong", {}, row.value ?? row.next ?? "")];
  const bytes = row.bytes && !change ? make("span", { class: "bytes" }, `${row.bytes} bytes`) : null;
  const hint = row.next === null ? null : make("span", { class: "away-from-eyes" }, " (not committed)");
  return make("li", { class: row.next === null ? "row" : "row dashed", "data-group": row.group, "data-tx": row.tx }, make("span", { class: "what" }, label), make("span", { class: "value" }, value, bytes, hint));
}

let shown = "";

/** Draws the panel. It changes only if the rows do. */
export function drawTruth(state) {
  const rows = rowsOf(state);
  const { books, unexplained } = state.truth;
  const form = JSON.stringify([rows, books, unexplained, state.settings.record, state.calls.length, state.end !== null]);
  if (form === shown) return;
  shown = form;
  const apart = state.settings.record === "apart";
  const many = rows.length > ROOM;
  const groups = groupsOf(rows).map(([name, list]) => {
    const title = (apart && NAIVE[name]) || HEADS[name];
    const items = (many && list.length > 1 ? folded(list) : list).map(rowElement);
    if (items.length === 0) items.push(make("li", { class: "row none" }, "no row"));
    return make("section", { class: "table" }, make("h3", {}, title), make("ul", {}, items));
  });
  byId("rows").replaceChildren(...groups);
  bracket();
  const taken = books.length;
  byId("books").dataset.taken = Math.min(taken, 2);
  say(byId("taken"), String(taken));
  const sum = books.length > 0 ? money(books[0].amount, books[0].currency) : "";
  say(byId("taken-words"), taken === 0 ? "nothing taken" : `${sum} taken ${often(taken)}`);
  say(byId("asked"), askedOf(state));
  say(byId("unexplained"), String(unexplained ?? 0));
  byId("unexplained").parentElement.dataset.some = unexplained > 0 ? (state.end ? "end" : "yet") : "none";
  compact(rows, taken, sum);
}

function askedOf(state) {
  const asked = state.calls.filter(({ kind }) => kind !== "look_up");
  if (asked.length === 0) return "not asked yet";
  const keys = new Set(asked.map(({ reference }) => reference)).size;
  const words = `asked ${often(asked.length)}`;
  if (asked.length === 1) return state.settings.record === "apart" ? words : `${words} · key ${String(asked[0].reference).slice(0, 10)}…`;
  return keys === 1 ? `${words}, with one key` : keys === asked.length ? `${words}, each time with a new key` : `${words}, with ${keys} keys`;
}

/** The bracket around the dashed rows: one COMMIT for all of them. */
function bracket() {
  const rows = byId("rows");
  const dashed = rows.querySelectorAll(".dashed");
  const mark = byId("bracket");
  mark.hidden = dashed.length === 0;
  if (mark.hidden) return;
  const top = rows.parentElement.getBoundingClientRect().top;
  const [first, last] = [dashed[0].getBoundingClientRect(), dashed[dashed.length - 1].getBoundingClientRect()];
  mark.style.transform = `translateY(${first.top - top + 4}px)`;
  mark.style.height = `${last.bottom - first.top - 8}px`;
  mark.classList.toggle("short", last.bottom - first.top < 82);
}

/** The three facts that a phone keeps in view. */
function compact(rows, taken, sum) {
  const newest = (group) => rows.findLast((row) => row.group === group);
  for (const [group, id] of [["records", "fact-record"], ["charges", "fact-charge"]]) {
    const row = newest(group);
    const element = byId(id);
    say(element, row ? (row.next ?? row.value ?? "–") : "–");
    element.parentElement.classList.toggle("dashed", Boolean(row?.next));
  }
  say(byId("fact-gateway"), taken === 0 ? "nothing" : `${taken} × ${sum.replace(/^\w+ /, "")}`);
}
