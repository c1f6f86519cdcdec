// <live-panels>: this run in the server's and the gateway's books. A change since the last look is marked.

import { h } from "./dom.js";
import { money } from "./outcome.js";

/** How many rows are shown. The others are folded. */
const SHOWN = 3;

const short = (id) => `…${id.slice(-6)}`;
const price = (row) => money(row.amount, row.currency);

const PANELS = [
  {
    name: "records", title: "Idempotency records", one: "record", id: (row) => row.id, source: "GET /v1/idempotency-keys?key=",
    row: (row) => [
      h("code", { class: "grow" }, row.key), h("span", { class: `state ${row.state}` }, row.state), String(row.status),
      row.expires_at ? h("span", {}, "lives ", h("time-left", { until: row.expires_at })) : h("span", {}, "until it is resolved"),
    ],
  },
  {
    name: "orders", title: "Orders", one: "order", id: (row) => row.id, source: "GET /v1/orders",
    row: (row) => [h("code", {}, short(row.id)), h("span", { class: "grow" }, row.items.map((item) => item.sku).join(", ")), price(row), h("span", { class: `state ${row.status}` }, row.status)],
  },
  {
    name: "charges", title: "Charges", one: "charge", id: (row) => row.id, source: "GET /v1/charges", counts: true,
    row: (row) => [h("code", {}, short(row.id)), h("span", { class: "grow" }, row.payment_method.replace("pm_card_", "").replaceAll("_", " ")), price(row), h("span", { class: `state ${row.status}` }, row.status)],
  },
  {
    name: "entitlements", title: "Entitlements", one: "entitlement", id: (row) => row.id, source: "GET /v1/entitlements", counts: true,
    row: (row) => [h("code", {}, short(row.id)), h("span", { class: "grow" }, row.feature), row.units === null ? "unlimited" : `${row.units - row.units_used} left`],
  },
  {
    name: "captures", title: "The gateway’s books", one: "capture", id: (row, index) => `${row.reference}-${index}`, source: "the gateway’s audit", counts: true,
    row: (row) => [h("code", { class: "grow" }, `${row.reference.slice(0, 10)}…`), price(row), h("span", { class: `state ${row.outcome}` }, row.outcome.replaceAll("_", " "))],
  },
];

class LivePanels extends HTMLElement {
  #folded = new Set(PANELS.map((panel) => panel.name));

  connectedCallback() {
    this.setAttribute("role", "region");
    this.setAttribute("aria-label", "The books");
    this.empty();
  }

  empty() {
    this.show(null, null, null);
  }

  /** `before` is the previous look: a row that differs is marked. `wants` is the number of charges that the client wants. */
  show(ledger, before, wants) {
    this.replaceChildren(...PANELS.map((panel) => this.#panel(panel, ledger, before, wants)));
  }

  #panel(panel, ledger, before, wants) {
    const rows = ledger?.[panel.name] ?? [];
    const old = new Map((before?.[panel.name] ?? []).map((row, index) => [panel.id(row, index), row]));
    const count = panel.name === "captures" ? rows.filter((row) => row.outcome === "succeeded").length : rows.length;
    const tooMany = panel.counts && wants !== null && count > wants;
    const items = rows.map((row, index) => {
      const mark = ledger && before ? difference(old.get(panel.id(row, index)), row) : null;
      return h("li", { class: mark ? "changed" : null }, ...panel.row(row), mark && h("span", { class: "mark" }, mark));
    });
    const hidden = items.splice(SHOWN);
    return h("section", { class: `panel${tooMany ? " too-many" : ""}`, "data-panel": panel.name },
      h("header", {},
        h("strong", { class: "count", "aria-hidden": "true" }, ledger ? String(count) : "–"),
        h("h3", {}, panel.title, h("span", { class: "away-from-eyes" }, ledger ? `: ${count}` : "")),
        h("small", {}, panel.source)),
      items.length > 0 ? h("ul", {}, items) : null,
      hidden.length > 0 ? this.#fold(panel, hidden) : null);
  }

  #fold(panel, hidden) {
    const fold = h("details", { open: !this.#folded.has(panel.name) }, h("summary", {}, `${hidden.length} more`), h("ul", {}, hidden));
    fold.addEventListener("toggle", () => this.#folded[fold.open ? "delete" : "add"](panel.name));
    return fold;
  }
}
customElements.define("live-panels", LivePanels);

/** The mark of a changed row: "new", or the old value. */
function difference(old, row) {
  if (!old) return "new";
  const member = ["status", "state", "outcome", "units_used"].find((name) => name in row && old[name] !== row[name]);
  return member ? `was ${old[member]}` : null;
}
