// <free-play>: the visitor's own request. The page sends copies of the request with a pause between, and drops some answers.

import { h } from "./dom.js";
import { fresh, json, pause } from "./run.js";

/** The most copies: more than the six connections of a browser, and few enough to draw as bars. */
const MOST = 20;

const METHODS = {
  pm_card_visa: "succeeds", pm_card_visa_chargeDeclined: "402, declined", pm_card_visa_chargeDeclinedInsufficientFunds: "402, not enough money",
  pm_card_slow: "succeeds after 3 s", pm_card_lost_reply: "captured, but the answer is lost: 202", pm_card_gateway_error: "500 twice, then succeeds",
  pm_card_sticky_error: "a 500 that stays: 202",
};

const PATHS = {
  "/v1/orders": () => ({ customer: `ada-${fresh()}`, items: [{ sku: "pro-monthly", quantity: 1 }] }),
  "/v1/charges": (form) => ({ order_id: "{order}", payment_method: form.elements.card.value }),
  "/v1/entitlements": () => ({ customer: `ada-${fresh()}`, feature: "api_credits", units: 100 }),
  "/v1/products/sticker": () => null,
};

class FreePlay extends HTMLElement {
  connectedCallback() {
    const field = (name, label, input, hint) => h("div", { class: `field ${name}` },
      h("label", { for: `free-${name}` }, label), Object.assign(input, { id: `free-${name}`, name }),
      hint && h("small", {}, hint));
    const number = (value, max, min = 0) => h("input", { type: "number", min, max, value, required: true, inputmode: "numeric" });
    const select = (options) => h("select", {}, options.map(([value, text]) => h("option", { value }, text ?? value)));
    this.form = h("form", { novalidate: false },
      field("method", "Method", select([["POST"], ["GET"], ["PUT"]])),
      field("path", "Path", h("input", { list: "free-paths", value: "/v1/charges", spellcheck: "false", required: true, pattern: "/.*" })),
      h("datalist", { id: "free-paths" }, Object.keys(PATHS).map((path) => h("option", { value: path }))),
      field("account", "Account", select([["acme"], ["globex"]])),
      field("key", "Idempotency-Key", h("input", { spellcheck: "false", autocomplete: "off" }), "If empty, the page sends no key. {n} is the number of the copy, so each copy gets its own key."),
      h("button", { type: "button", class: "quiet small new-key", onclick: () => this.#newKey() }, "New key"),
      field("card", "Payment method", select(Object.entries(METHODS).map(([name, does]) => [name, `${name}: ${does}`]))),
      field("body", "Body", h("textarea", { rows: 4, spellcheck: "false" }), "The page first makes an order, and puts the order’s id in the place of {order}."),
      field("copies", "Copies", number(5, MOST, 1)),
      field("apart", "Apart, in ms", number(80, 5000)),
      field("drops", "Answers to drop", number(1, MOST)),
      // On purpose: a hidden button, so that Enter in a field also runs the form.
      h("button", { type: "submit", hidden: true }, "Run"));
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.dispatchEvent(new Event("play"));
    });
    this.append(this.form);
    this.form.elements.path.addEventListener("change", () => this.#template());
    this.form.elements.card.addEventListener("change", () => this.#template());
    this.form.elements.method.addEventListener("change", () => this.#template());
    this.#newKey();
    this.#template();
  }

  #newKey() {
    this.form.elements.key.value = `free-${fresh()}`;
  }

  #template() {
    const { path, body, method } = this.form.elements;
    const template = method.value === "POST" ? PATHS[path.value]?.(this.form) : null;
    if (method.value !== "POST") body.value = "";
    else if (template) body.value = JSON.stringify(template, null, 2);
  }

  get account() {
    return this.form.elements.account.value;
  }

  /** Whether all fields are valid. If a field is wrong, the browser says which. */
  get isReady() {
    return this.form.reportValidity();
  }

  async play(run) {
    const value = (name) => this.form.elements[name].value;
    let body = value("body").trim() || null;
    if (body?.includes("{order}")) {
      const order = { customer: run.customer, items: [{ sku: "pro-monthly", quantity: 1 }] };
      const made = await run.send({ lane: "order", path: "/v1/orders", key: `prepare-${run.name}`, body: order, aside: true });
      body = body.replaceAll("{order}", json(made).id ?? "");
    }
    const [copies, apart, drops] = ["copies", "apart", "drops"].map((name) => Number(value(name)));
    await Promise.all(Array.from({ length: copies }, async (_, copy) => {
      await pause(copy * apart);
      const key = value("key").replaceAll("{n}", String(copy + 1)) || null;
      await run.send({ lane: `copy ${copy + 1}`, method: value("method"), path: value("path"), key, body, drop: copy < drops });
    }));
  }
}
customElements.define("free-play", FreePlay);
