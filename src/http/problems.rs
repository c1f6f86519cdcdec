//! Every problem of the API, as data. The answers, the pages at `/problems/{slug}` and the documentation are generated
//! from it.

use serde::Serialize;

/// A problem type (RFC 9457). The member `type` is the path of the problem's page.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    /// The last part of `type`. A slug never changes: clients depend on it.
    pub slug: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// A short name for a person.
    pub title: &'static str,
    /// When the problem arises. The kind decides whether a policy may store the problem.
    pub kind: Kind,
    /// What the problem means.
    pub meaning: &'static str,
    /// What the client should do.
    pub remedy: &'static str,
}

/// When a problem arises, and what that means for the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Before the endpoint's work runs: nothing is stored, and the key is free.
    Before,
    /// The key belongs to another request: nothing is stored, and the other request's reply stays.
    Reused,
    /// The final decision of the endpoint's work: stored if the policy caches failures. The same problem may also arise
    /// before the work runs, as [`Kind::Before`]: an invalid body, or a path id that no resource can have.
    Final,
    /// The cause passes: never stored.
    Transient,
    /// An outcome, like a success: stored together with the charge or the refund.
    Outcome,
    /// The key's reply is deleted, but the request took effect. Never stored: every retry gets this problem again.
    Late,
    /// Something broke, or the server is too busy: never stored.
    Broken,
}

impl Kind {
    /// When a problem of this kind arises, in a sentence for a person.
    #[must_use]
    pub const fn for_a_person(self) -> &'static str {
        match self {
            Self::Before => "Before the request takes effect. Nothing is stored, and the key is still free.",
            Self::Reused => {
                "Before the request takes effect. Nothing is stored, and the key stays with the first request."
            }
            Self::Final => {
                "When the request is carried out or checked. If the endpoint caches failures and had begun to carry it out, a \
                 retry with the same key gets this answer for a while."
            }
            Self::Transient => "Because of a state that passes. The answer is never stored.",
            Self::Outcome => "As the outcome of the request. A retry with the same key gets the same answer.",
            Self::Late => "After the key has expired. From then on, the key always gets this answer.",
            Self::Broken => "On our side. The answer is never stored.",
        }
    }
}

/// What the client should do next: the member `retry` of every problem, and the header `Retry-Advice`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Retry {
    /// Send the same request with the same key, after Retry-After.
    Again,
    /// Change something first: the request, or the state that it met. The key was not used up.
    Fix,
    /// Treat it as the answer. Another attempt is a new decision and needs a new key.
    NewKey,
    /// Don't send it again. Look at `resource`.
    Never,
}

impl Retry {
    /// Every value.
    pub const ALL: [Self; 4] = [Self::Again, Self::Fix, Self::NewKey, Self::Never];

    /// The value of the member `retry`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Again => "again",
            Self::Fix => "fix",
            Self::NewKey => "new-key",
            Self::Never => "never",
        }
    }

    /// What the client should do, for a person.
    #[must_use]
    pub const fn for_a_person(self) -> &'static str {
        match self {
            Self::Again => "Send the same request with the same key, after Retry-After.",
            Self::Fix => {
                "Change something first: the request, or the state that it met. This sending did not use the key."
            }
            Self::NewKey => "Treat it as the answer. Another attempt is a new decision and needs a new key.",
            Self::Never => "Don't send it again. Look at the resource that the problem names.",
        }
    }
}

impl Problem {
    /// What the client should do. `stored`: whether the policy stored this answer for the key's retries.
    #[must_use]
    pub const fn retry(&self, stored: bool) -> Retry {
        match self.kind {
            Kind::Final if stored => Retry::NewKey,
            Kind::Before | Kind::Final => Retry::Fix,
            Kind::Reused | Kind::Outcome => Retry::NewKey,
            Kind::Transient | Kind::Broken => Retry::Again,
            Kind::Late => Retry::Never,
        }
    }
}

macro_rules! problems {
    ($($name:ident = $slug:literal, $status:literal, $kind:ident, $title:literal, $meaning:literal, $remedy:literal;)*) => {
        $(#[doc = $meaning] pub const $name: Problem = Problem {
            slug: $slug, status: $status, title: $title, kind: Kind::$kind, meaning: $meaning, remedy: $remedy,
        };)*
        /// Every problem, by status.
        pub const ALL: &[&Problem] = &[$(&$name),*];
    };
}

problems! {
    KEY_MISSING = "idempotency-key-missing", 400, Before, "Idempotency key missing",
        "This endpoint needs an Idempotency-Key header, and the request has none.",
        "Make one key for each operation, for example a random UUID. Send it with the request, and keep it for retries.";
    KEY_INVALID = "idempotency-key-invalid", 400, Before, "Idempotency key invalid",
        "The Idempotency-Key header is empty, longer than 255 characters, malformed, or was sent more than once.",
        "Send one key of 1 to 255 visible ASCII characters, bare or as a quoted string.";
    MALFORMED_REQUEST = "malformed-request", 400, Before, "Malformed request",
        "The server can't read the request: the body is not JSON, a member appears twice, or a header is malformed.",
        "Correct what the detail names.";
    UNAUTHORIZED = "unauthorized", 401, Before, "Unauthorized",
        "The request has no API key, more than one, or one that is unknown or revoked.",
        "Send one header Authorization: Bearer with an API key of your account.";
    CARD_DECLINED = "card-declined", 402, Outcome, "Card declined",
        "The payment method was declined. No money moved, and the order is still unpaid.",
        "Ask your customer for another payment method, and charge it with a new key. The same key gets this answer again.";
    GATEWAY_FAILED = "gateway-failed", 402, Outcome, "Gateway failed",
        "The gateway refused the payment or the refund, or failed for good. No money moved.",
        "Try again with a new key. The same key gets this answer again.";
    NOT_FOUND = "not-found", 404, Final, "Not found",
        "The resource does not exist, or belongs to another account.",
        "Check the path and the id.";
    METHOD_NOT_ALLOWED = "method-not-allowed", 405, Before, "Method not allowed",
        "The path exists, but not with this method.",
        "Use one of the methods in the Allow header.";
    REQUEST_TIMEOUT = "request-timeout", 408, Transient, "Request timeout",
        "The body of the request did not arrive within 10 seconds. Nothing was done.",
        "Send the same request with the same key again.";
    OUT_OF_STOCK = "out-of-stock", 409, Final, "Out of stock",
        "The product has less stock than the request needs.",
        "Order fewer units, or try again after the product is restocked.";
    ORDER_NOT_PAYABLE = "order-not-payable", 409, Final, "Order not payable",
        "The order is already paid, canceled or refunded.",
        "Look at the order, and don't charge it again.";
    ORDER_NOT_CANCELABLE = "order-not-cancelable", 409, Final, "Order not cancelable",
        "Only a pending order can be canceled.",
        "To undo a paid order, refund its charge.";
    REFUND_EXCEEDS_CHARGE = "refund-exceeds-charge", 409, Final, "Refund exceeds charge",
        "The amount is more than what is left of the charge.",
        "Refund at most the charge's amount minus its amount_refunded.";
    CHARGE_NOT_REFUNDABLE = "charge-not-refundable", 409, Final, "Charge not refundable",
        "The charge did not succeed, or is already refunded in full.",
        "Look at the charge and its refunds.";
    QUOTA_EXCEEDED = "quota-exceeded", 409, Final, "Quota exceeded",
        "The entitlement has fewer units left than the request asks for. Nothing was consumed.",
        "Consume fewer units, or grant more. The same key gets this answer again for a minute, and then runs again.";
    ENTITLEMENT_INACTIVE = "entitlement-inactive", 409, Final, "Entitlement inactive",
        "The entitlement is expired or revoked.",
        "Use another entitlement of the customer.";
    PAYMENT_IN_PROGRESS = "payment-in-progress", 409, Transient, "Payment in progress",
        "The request depends on a payment or a refund whose outcome is not known yet.",
        "Wait as Retry-After says, and send the same request with the same key.";
    REQUEST_IN_FLIGHT = "idempotency-request-in-flight", 409, Transient, "Request in flight",
        "The first request with this key is still running.",
        "Wait as Retry-After says, and send the same request with the same key.";
    KEY_EXPIRED = "idempotency-key-expired", 409, Late, "Idempotency key expired",
        "The request took effect long ago, and its reply is no longer stored. It does not run again.",
        "Look at the resource that the problem names. Use a new key for a new request.";
    PRECONDITION_FAILED = "precondition-failed", 412, Before, "Precondition failed",
        "If-Match names another version than the current one, or the resource does not exist. Nothing was changed.",
        "Get the resource, look at what changed, and decide again with its new ETag.";
    PAYLOAD_TOO_LARGE = "payload-too-large", 413, Before, "Payload too large",
        "The body is larger than 64 KiB.",
        "Send less in one request.";
    UNSUPPORTED_MEDIA_TYPE = "unsupported-media-type", 415, Before, "Unsupported media type",
        "The Content-Type is not JSON, or the body is compressed.",
        "Send Content-Type: application/json, and no Content-Encoding.";
    KEY_REUSED = "idempotency-key-reused", 422, Reused, "Idempotency key reused",
        "The key was used with another request: another body, or another endpoint of the same key space.",
        "Use a new key for a new request, and the same body for a retry.";
    INVALID_REQUEST = "invalid-request", 422, Final, "Invalid request",
        "A member of the body or a parameter is missing, unknown or has a wrong value. The member errors names each fault.",
        "Correct each fault.";
    UNKNOWN_PRODUCT = "unknown-product", 422, Final, "Unknown product",
        "The order names a SKU that is not in the catalogue.",
        "Check the SKU, or PUT the product first.";
    MIXED_CURRENCIES = "mixed-currencies", 422, Final, "Mixed currencies",
        "The order's products have different currencies.",
        "Create one order for each currency.";
    INTERNAL = "internal", 500, Broken, "Internal error",
        "Something broke on our side. The request took no effect, or a retry with the same key finds its reply.",
        "Send the same request with the same key again. If the problem stays, tell us the X-Request-Id.";
    OVERLOADED = "overloaded", 503, Broken, "Overloaded",
        "Too many requests are waiting. The server refused this one before it changed anything.",
        "Wait as Retry-After says, and send the same request with the same key.";
    DATABASE_UNAVAILABLE = "database-unavailable", 503, Broken, "Database unavailable",
        "The database can't be reached or took too long. The request took no effect, or a retry with the same key finds its reply.",
        "Wait as Retry-After says, and send the same request with the same key.";
}
