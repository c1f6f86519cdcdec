// Swagger UI, with three additions: a fresh key for each operation, an order that can be paid, and an API key that the tab
// remembers.

const API_KEY = "api-key";

/** A random UUID. `crypto.randomUUID` exists only on https and localhost. */
function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** All keyed operations of the document have the same example key, which two operations in a row would reuse. */
function withFreshKeys(document) {
  for (const operation of Object.values(document.paths).flatMap((item) => Object.values(item))) {
    for (const parameter of operation.parameters ?? []) if (parameter.name === "Idempotency-Key") parameter.example = uuid();
  }
  return document;
}

async function call(path, options = {}) {
  const headers = { ...options.headers, Authorization: `Bearer ${sessionStorage.getItem(API_KEY)}` };
  const answer = await fetch(path, { ...options, headers });
  if (!answer.ok) throw new Error(`${options.method ?? "GET"} ${path} answers ${answer.status}`);
  return answer.json();
}

/** The newest pending order. */
async function pendingOrder() {
  return (await call("/v1/orders?limit=100")).data.find((order) => order.status === "pending");
}

async function newOrder() {
  const [product] = (await call("/v1/products?limit=1")).data;
  if (!product) throw new Error("the catalogue is empty: PUT a product first");
  const body = JSON.stringify({ customer: "ada", items: [{ sku: product.sku, quantity: 1 }] });
  return call("/v1/orders", { method: "POST", headers: { "Content-Type": "application/json", "Idempotency-Key": uuid() }, body });
}

/** Adds a button for a new key below the key of an operation. */
function keyRow(Original, { React, specActions }) {
  return function KeyRow(props) {
    const row = React.createElement(Original, props);
    if (!props.isExecute || props.rawParam.get("name") !== "Idempotency-Key") return row;
    const renew = () => specActions.changeParamByIdentity(props.pathMethod, props.rawParam, uuid(), false);
    const button = React.createElement("button", { type: "button", className: "btn", onClick: renew }, "New key");
    const hint = React.createElement("span", { className: "hint" }, "Keep the key to send the request again.");
    const cells = [React.createElement("td", { key: 1 }), React.createElement("td", { key: 2 }, button, hint)];
    return React.createElement(React.Fragment, null, row, React.createElement("tr", { className: "help" }, cells));
  };
}

/** Fills the body of a charge with an existing order. */
function chargeBody(Original, system) {
  const { React } = system;
  return function ChargeBody(props) {
    const [says, setSays] = React.useState("");
    const [, path, method] = props.specPath;
    const isCharge = props.isExecute && path === "/v1/charges";
    const use = (order) => {
      const body = { order_id: order.id, payment_method: "pm_card_visa" };
      system.oas3Actions.setRequestBodyValue({ value: JSON.stringify(body, null, 2), pathMethod: [path, method] });
      setSays(`This order of ${order.customer} waits for its payment.`);
    };
    const failed = (error) => setSays(sessionStorage.getItem(API_KEY) ? error.message : "Authorize first. Then the page finds an order.");
    React.useEffect(() => {
      const found = (order) => (order ? use(order) : setSays("No order waits for its payment."));
      if (isCharge) pendingOrder().then(found).catch(failed);
    }, [isCharge]);
    const body = React.createElement(Original, props);
    if (!isCharge) return body;
    const make = () => newOrder().then(use).catch(failed);
    const button = React.createElement("button", { type: "button", className: "btn", onClick: make }, "Make a new order");
    const hint = React.createElement("span", { className: "hint", role: "status" }, says);
    return React.createElement("div", null, body, React.createElement("p", { className: "help" }, button, hint));
  };
}

const remember = {
  authorize: (original) => (payload) => {
    if (payload.apiKey?.value) sessionStorage.setItem(API_KEY, payload.apiKey.value);
    return original(payload);
  },
  logout: (original) => (payload) => {
    sessionStorage.removeItem(API_KEY);
    return original(payload);
  },
};

/** Swagger UI has a link inside the button that opens an operation. Text replaces the link: the button is enough. */
const plainText = (Original, { React }) => ({ text }) => React.createElement("span", null, text);

/** Labels the controls that Swagger UI leaves unlabelled, and lets the keyboard reach scrolling boxes. */
function mend(root) {
  for (const box of root.querySelectorAll("pre:not([tabindex])")) box.tabIndex = 0;
  const nameless = (selector) => root.querySelectorAll(`${selector}:not([aria-label])`);
  for (const text of nameless("textarea")) text.setAttribute("aria-label", "Request body");
  for (const select of nameless("select")) {
    if (select.id === "servers") select.setAttribute("aria-label", "Server");
    else if (select.matches(".examples-select-element")) select.setAttribute("aria-label", "Example");
    else if (select.matches(".content-type")) select.setAttribute("aria-label", "Media type");
    else select.setAttribute("aria-label", select.closest("[data-param-name]")?.dataset.paramName ?? "Choice");
  }
  for (const input of nameless("[data-param-name] input")) input.setAttribute("aria-label", input.closest("[data-param-name]").dataset.paramName);
}

async function begin() {
  const root = document.getElementById("swagger-ui");
  let spec;
  try {
    spec = withFreshKeys(await (await fetch("/openapi.json")).json());
  } catch (error) {
    root.textContent = `The server does not answer (${error.message}). Reload the page when it is back.`;
    return;
  }
  new MutationObserver(() => mend(root)).observe(root, { childList: true, subtree: true });
  const ui = window.SwaggerUIBundle({
    spec,
    domNode: root,
    deepLinking: true,
    docExpansion: "list",
    defaultModelsExpandDepth: 0,
    validatorUrl: "none",
    plugins: [() => ({
      wrapComponents: { parameterRow: keyRow, RequestBody: chargeBody, DeepLink: plainText },
      statePlugins: { auth: { wrapActions: remember } },
    })],
    onComplete: () => {
      const key = sessionStorage.getItem(API_KEY);
      if (key) ui.preauthorizeApiKey("apiKey", key);
    },
  });
}

begin();
