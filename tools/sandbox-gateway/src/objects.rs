//! The objects as Stripe writes them, with every member that Stripe's document requires.

use serde_json::{Value, json};

use super::books::{PaymentIntent, Refund, charge};

/// A PaymentIntent.
pub fn payment_intent(intent: &PaymentIntent) -> Value {
    let is_paid = intent.status == "succeeded";
    let has_charge = is_paid || intent.error_code.is_some();
    let action = (intent.status == "requires_action").then(|| {
        json!({"type": "redirect_to_url", "redirect_to_url": {"return_url": null, "url": "https://example.com/3ds"}})
    });
    json!({
        "id": intent.id, "object": "payment_intent",
        "amount": intent.amount, "amount_capturable": 0, "amount_details": {"tip": {}},
        "amount_received": if is_paid { intent.amount } else { 0 },
        "application": null, "application_fee_amount": null, "automatic_payment_methods": null,
        // Nobody cancels through the sandbox, so its books have no time of cancellation.
        "canceled_at": (intent.status == "canceled").then(|| intent.created_at.timestamp()), "cancellation_reason": null,
        "capture_method": "automatic_async", "client_secret": format!("{}_secret_sandbox", intent.id),
        "confirmation_method": "automatic", "created": intent.created_at.timestamp(), "currency": intent.currency,
        "customer": null, "description": null, "excluded_payment_method_types": null,
        "last_payment_error": last_payment_error(intent),
        "latest_charge": has_charge.then(|| charge(&intent.id)),
        "livemode": false, "metadata": intent.metadata, "next_action": action, "on_behalf_of": null,
        "payment_method": intent.error_code.is_none().then_some(&intent.payment_method),
        "payment_method_configuration_details": null,
        "payment_method_options": {"card": {"installments": null, "mandate_options": null, "network": null, "request_three_d_secure": "automatic"}},
        "payment_method_types": ["card"], "processing": null, "receipt_email": null, "review": null,
        "setup_future_usage": null, "shipping": null, "source": null, "statement_descriptor": null,
        "statement_descriptor_suffix": null, "status": intent.status, "transfer_data": null, "transfer_group": null,
    })
}

/// A refund.
pub fn refund(refund: &Refund) -> Value {
    let mut object = json!({
        "id": refund.id, "object": "refund", "amount": refund.amount, "balance_transaction": null,
        "charge": charge(&refund.payment_intent), "created": refund.created_at.timestamp(), "currency": refund.currency,
        "destination_details": {"card": {"reference_status": "pending", "reference_type": "acquirer_reference_number", "type": "refund"}, "type": "card"},
        "metadata": refund.metadata, "payment_intent": refund.payment_intent, "reason": null, "receipt_number": null,
        "source_transfer_reversal": null, "status": refund.status(), "transfer_reversal": null,
    });
    if refund.status() == "failed" {
        object["failure_reason"] = "expired_or_canceled_card".into();
    }
    object
}

/// The error of a card that was declined, as a 402 has it.
pub fn card_error(intent: &PaymentIntent) -> Value {
    let mut error = last_payment_error(intent);
    error["payment_intent"] = payment_intent(intent);
    json!({"error": error})
}

fn last_payment_error(intent: &PaymentIntent) -> Value {
    let Some(code) = &intent.error_code else { return Value::Null };
    let mut error = json!({
        "type": "card_error", "code": code, "message": "Your card was declined.", "charge": charge(&intent.id),
        "doc_url": format!("https://docs.stripe.com/error-codes/{}", code.replace('_', "-")),
        "payment_method": card(intent),
    });
    if let Some(decline_code) = &intent.decline_code {
        error["decline_code"] = decline_code.as_str().into();
    }
    error
}

/// The payment method of an error is the whole object.
fn card(intent: &PaymentIntent) -> Value {
    let nobody = json!({"address": {"city": null, "country": null, "line1": null, "line2": null, "postal_code": null, "state": null}, "email": null, "name": null, "phone": null, "tax_id": null});
    json!({
        "id": intent.payment_method, "object": "payment_method", "allow_redisplay": "unspecified", "billing_details": nobody,
        "card": {
            "brand": "visa", "checks": {"address_line1_check": null, "address_postal_code_check": null, "cvc_check": "pass"},
            "country": "US", "display_brand": "visa", "exp_month": 12, "exp_year": 2034, "fingerprint": null, "funding": "credit",
            "generated_from": null, "last4": "4242", "networks": {"available": ["visa"], "preferred": null},
            "regulated_status": "unregulated", "three_d_secure_usage": {"supported": true}, "wallet": null,
        },
        "created": intent.created_at.timestamp(), "customer": null, "livemode": false, "metadata": {}, "type": "card",
    })
}
