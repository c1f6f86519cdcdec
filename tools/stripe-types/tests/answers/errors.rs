//! The error envelope.

use stripe_shared::{ApiErrors, ApiErrorsCode, ApiErrorsType, Error, PaymentIntentStatus, Refund};

use crate::sandbox::{Sandbox, payment};

#[tokio::test]
async fn a_decline_carries_its_payment_intent() {
    let sandbox = Sandbox::start();
    for (card, code, decline_code) in [
        ("pm_card_visa_chargeDeclined", ApiErrorsCode::CardDeclined, Some("generic_decline")),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", ApiErrorsCode::CardDeclined, Some("insufficient_funds")),
        ("pm_card_visa_chargeDeclinedLostCard", ApiErrorsCode::CardDeclined, Some("lost_card")),
        ("pm_card_chargeDeclinedExpiredCard", ApiErrorsCode::ExpiredCard, None),
        ("pm_card_chargeDeclinedIncorrectCvc", ApiErrorsCode::IncorrectCvc, None),
        ("pm_card_chargeDeclinedProcessingError", ApiErrorsCode::ProcessingError, None),
        ("pm_card_threeDSecure2Required", ApiErrorsCode::AuthenticationRequired, Some("authentication_required")),
    ] {
        let Error { error } = sandbox.pay(card, 402).await;
        assert_eq!((error.type_, error.code), (ApiErrorsType::CardError, Some(code)), "{card}");
        assert_eq!(error.decline_code.as_deref(), decline_code, "{card}");
        let intent = error.payment_intent.unwrap();
        assert_eq!(intent.status, PaymentIntentStatus::RequiresPaymentMethod, "{card}");
        assert!(error.message.is_some() && error.doc_url.is_some() && error.payment_method.is_some(), "{card}");
    }
}

#[tokio::test]
async fn a_refusal_names_its_code_and_its_parameter() {
    let sandbox = Sandbox::start();
    let intent = sandbox.paid("pm_card_visa").await;
    let refund = |intent: &str, amount: &str| [("payment_intent", intent.to_owned()), ("amount", amount.to_owned())];
    let told = |error: ApiErrors| (error.type_, error.code, error.param);
    let invalid = |code: Option<ApiErrorsCode>, param: Option<&str>| {
        (ApiErrorsType::InvalidRequestError, code, param.map(str::to_owned))
    };

    let unknown = sandbox.pay::<Error>("pm_card_none", 400).await;
    assert_eq!(told(*unknown.error), invalid(Some(ApiErrorsCode::ResourceMissing), Some("payment_method")));
    let mut no_amount = payment("pm_card_visa").to_vec();
    no_amount.remove(0);
    let missing: Error = sandbox.post("/v1/payment_intents", &no_amount, 400).await;
    assert_eq!(told(*missing.error), invalid(Some(ApiErrorsCode::ParameterMissing), Some("amount")));
    for (intent, amount, code, param) in [
        ("pi_none", "1", Some(ApiErrorsCode::ResourceMissing), Some("payment_intent")),
        (&intent, "501", None, Some("amount")),
        (&intent, "0", Some(ApiErrorsCode::ParameterInvalidInteger), Some("amount")),
    ] {
        let form = refund(intent, amount);
        let form = [(form[0].0, form[0].1.as_str()), (form[1].0, form[1].1.as_str())];
        let refused: Error = sandbox.post("/v1/refunds", &form, 400).await;
        assert_eq!(told(*refused.error), invalid(code, param), "{form:?}");
    }
    let _: Refund = sandbox.post("/v1/refunds", &[("payment_intent", &*intent)], 200).await;
    let again: Error = sandbox.post("/v1/refunds", &[("payment_intent", &*intent)], 400).await;
    assert_eq!(told(*again.error), invalid(Some(ApiErrorsCode::ChargeAlreadyRefunded), None));

    for (path, param) in [("/v1/payment_intents/pi_none", "intent"), ("/v1/refunds/re_none", "refund")] {
        let nowhere: Error = sandbox.get(path, 404).await;
        assert_eq!(told(*nowhere.error), invalid(Some(ApiErrorsCode::ResourceMissing), Some(param)));
    }
    let sticky: Error = sandbox.pay("pm_card_sticky_error", 500).await;
    assert_eq!(sticky.error.type_, ApiErrorsType::ApiError);
}
