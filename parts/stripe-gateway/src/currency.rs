// SPDX-License-Identifier: MIT OR Apache-2.0
//! Amounts at the gateway. Ours are in minor units of ISO 4217; Stripe's differ for some currencies.
//!
//! The source is <https://docs.stripe.com/currencies>, "Special cases" and "Three-decimal currencies". Stripe's other
//! zero-decimal currencies (JPY, KRW, VND ..) have no minor unit in ISO 4217 either, so their amounts are the same on
//! both sides.

/// How many of our minor units equal how many of Stripe's. The first number is the smallest amount that Stripe can
/// express.
fn units(currency: &str) -> (i64, i64) {
    match currency {
        // ISO 4217 has no minor unit, and Stripe has hundredths.
        "ISK" | "UGX" => (1, 100),
        // ISO 4217 has hundredths, and Stripe takes whole units only.
        "MGA" => (100, 1),
        // Both have thousandths, and Stripe takes whole hundredths only: the last digit must be 0.
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => (10, 10),
        _ => (1, 1),
    }
}

/// An amount in minor units as Stripe writes it. None if Stripe can't express it.
#[must_use]
pub fn to_gateway(amount: i64, currency: &str) -> Option<i64> {
    let (ours, theirs) = units(currency);
    convert(amount, ours, theirs)
}

/// Stripe's amount in minor units. None if [`to_gateway`] never returns it.
#[must_use]
pub fn from_gateway(amount: i64, currency: &str) -> Option<i64> {
    let (ours, theirs) = units(currency);
    convert(amount, theirs, ours)
}

fn convert(amount: i64, from: i64, to: i64) -> Option<i64> {
    if amount % from == 0 { (amount / from).checked_mul(to) } else { None }
}

/// What an amount must be a multiple of, in minor units, for an error message.
#[must_use]
pub fn step(currency: &str) -> i64 {
    units(currency).0
}

#[cfg(test)]
mod tests {
    use iso_currency::Currency;

    use super::*;

    /// Stripe's zero-decimal currencies, except the special cases: <https://docs.stripe.com/currencies#zero-decimal>.
    const ZERO_DECIMAL: [&str; 15] =
        ["BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF"];

    #[test]
    fn amounts_are_converted_both_ways() {
        for (currency, ours, theirs) in [
            ("EUR", 1050, 1050),
            ("JPY", 500, 500),
            ("ISK", 5, 500),
            ("UGX", 5, 500),
            ("MGA", 500, 5),
            ("KWD", 5120, 5120),
            ("EUR", i64::MAX, i64::MAX),
        ] {
            assert_eq!(to_gateway(ours, currency), Some(theirs), "{currency}");
            assert_eq!(from_gateway(theirs, currency), Some(ours), "{currency}");
        }
    }

    #[test]
    fn what_cannot_be_expressed_is_not_rounded() {
        assert_eq!(to_gateway(501, "MGA"), None);
        assert_eq!(to_gateway(5124, "KWD"), None);
        assert_eq!(to_gateway(i64::MAX, "ISK"), None);
        assert_eq!(from_gateway(501, "ISK"), None);
        assert_eq!(from_gateway(5124, "JOD"), None);
        assert_eq!(from_gateway(i64::MAX, "MGA"), None);
    }

    /// One unit of each currency, in both forms: the exponents of ISO 4217 and of Stripe's list must lead to the same
    /// amount.
    #[test]
    fn one_unit_of_every_currency_is_what_stripes_list_says() {
        let letters = || 'A'..='Z';
        let codes = letters().flat_map(|a| letters().flat_map(move |b| letters().map(move |c| format!("{a}{b}{c}"))));
        for currency in codes.filter_map(|code| Currency::from_code(&code)) {
            let code = currency.code();
            let Some(exponent @ 0..=3) = currency.exponent() else { continue };
            let ours = 10_i64.pow(u32::from(exponent));
            let theirs = match code {
                _ if ZERO_DECIMAL.contains(&code) => 1,
                _ if exponent == 3 => 1000,
                // A currency that Stripe's lists don't name has hundredths there. A unit of account that no card is
                // charged in, such as UYI, is never sent.
                "UYI" => 1,
                _ => 100,
            };
            assert_eq!(to_gateway(ours, code), Some(theirs), "{code}");
            assert_eq!(from_gateway(theirs, code), Some(ours), "{code}");
            assert_eq!(step(code), if to_gateway(1, code).is_some() { 1 } else { step(code) }, "{code}");
        }
    }
}
