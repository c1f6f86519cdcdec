// <request-details>: what one lane of the picture sent and got, with a curl line, and links to the rules.

import { badge, h, span } from "./dom.js";
import { OUTCOMES, RETRY, drawnAs } from "./outcome.js";
import { curl, json } from "./run.js";

/** The source file of each endpoint. */
const FILES = [
  [/^.v1.charges.*refunds/, "src/shop/refunds.rs"], [/^.v1.charges/, "src/shop/charges.rs"], [/^.v1.entitlements/, "src/shop/entitlements.rs"],
  [/^.v1.products/, "src/shop/products.rs"], [/^.v1.orders/, "src/shop/orders/mod.rs"],
];

class RequestDetails extends HTMLElement {
  /** Shows the requests of a lane. */
  show(run, requests, label) {
    this.replaceChildren(
      h("h3", { class: "lane-title" }, label),
      ...requests.map((request, index) => card(run, request, index === requests.length - 1)),
    );
    this.hidden = requests.length === 0;
  }

  clear() {
    this.replaceChildren();
    this.hidden = true;
  }
}
customElements.define("request-details", RequestDetails);

function card(run, request, open) {
  const outcome = drawnAs(run, request);
  const answered = request.answeredAt !== null;
  const head = h("summary", {},
    h("code", {}, `${request.method} ${shorter(request.path)}`),
    answered ? badge(outcome, OUTCOMES[outcome].name) : h("span", { class: "badge" }, "under way"),
    h("span", { class: "took" }, request.status ? `${request.status} · ` : "", answered ? span(request.answeredAt - request.sentAt) : ""));
  return h("details", { class: "request", open }, head,
    h("p", { class: "meaning" }, answered ? OUTCOMES[outcome].says : "No answer yet."),
    advice(request),
    h("div", { class: "two" },
      h("section", {}, h("h4", {}, "Sent"), facts({ "Idempotency-Key": request.key }), body(request.body)),
      h("section", {}, h("h4", {}, "Answered"), facts(request.headers), answerBody(request))),
    h("h4", {}, "The same with curl"),
    h("div", { class: "copyable" }, h("pre", { tabindex: 0, role: "region", "aria-label": "curl line" }, curl(request)), copyButton(curl(request))),
    rules(request));
}

/** Shortens the ids in a path: an id is long, and its beginning says little. */
const shorter = (path) => path.replace(/[0-9a-f]{8}-[0-9a-f-]{22}([0-9a-f]{5})/, "…$1");

function advice(request) {
  const retry = RETRY[json(request).retry];
  const expires = request.headers["Idempotency-Expires"];
  return [
    retry && h("p", { class: "advice" }, h("strong", {}, "What to do: "), retry),
    expires && h("p", { class: "advice" }, h("strong", {}, "A retry gets this reply for another "), h("time-left", { until: new Date(expires).toISOString() })),
  ];
}

function facts(headers) {
  const rows = Object.entries(headers).filter(([, value]) => value !== null && value !== undefined);
  return rows.length > 0 && h("dl", { class: "facts" }, rows.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

const body = (text) => (text === null ? h("p", { class: "meaning" }, "No body.") : h("pre", { tabindex: 0, role: "region", "aria-label": "Body" }, indented(text)));

/** Indents JSON for the reader. The real bytes are not indented. */
function indented(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function answerBody(request) {
  if (request.lost) return h("p", { class: "meaning" }, "The browser dropped the body without reading the body.");
  if (request.failure) return h("p", { class: "meaning" }, `No answer: ${request.failure}`);
  return request.text === null ? null : body(request.text);
}

function copyButton(text) {
  const button = h("button", { type: "button", class: "quiet small" }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      // If the page came from another machine over plain HTTP, the browser refuses the clipboard.
      const line = button.previousElementSibling;
      getSelection().selectAllChildren(line);
      button.textContent = "Selected: press Ctrl+C";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  return button;
}

/** Links to the rules of a request. The id of the policy's row is made of the words of the route. */
function rules(request) {
  const route = `${request.method} ${request.path.split("?")[0]}`.replace(/[0-9a-f]{8}-[0-9a-f-]{27}/g, "id");
  const policy = request.method === "POST" && `/policies#${route.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/-$/, "")}`;
  const file = FILES.find(([path]) => path.test(request.path))?.[1];
  const type = json(request).type;
  return h("p", { class: "rules" },
    policy && h("a", { href: policy }, "Its policy"),
    file && h("a", { href: `/source/${file}` }, file),
    type?.startsWith("/problems/") && h("a", { href: type }, "What the problem means"));
}
