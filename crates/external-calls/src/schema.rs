// @generated automatically by Diesel CLI.

diesel::table! {
    external_calls (account_id, reference) {
        account_id -> Uuid,
        #[max_length = 64]
        reference -> Varchar,
        #[max_length = 512]
        scope -> Varchar,
        #[max_length = 255]
        key -> Varchar,
        request_id -> Uuid,
        call -> Jsonb,
        location -> Text,
        attempts -> Int4,
        next_attempt_at -> Nullable<Timestamptz>,
        unanswered_at -> Nullable<Timestamptz>,
        parked_at -> Nullable<Timestamptz>,
        resolved_at -> Nullable<Timestamptz>,
        created_at -> Timestamptz,
        #[max_length = 255]
        outside_id -> Nullable<Varchar>,
        only_look -> Bool,
        looks -> Int4,
        leased -> Bool,
        hinted -> Bool,
    }
}
