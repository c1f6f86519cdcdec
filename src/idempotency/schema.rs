// @generated automatically by Diesel CLI.

diesel::table! {
    idempotency_keys (account_id, scope, key) {
        account_id -> Uuid,
        scope -> Text,
        key -> Text,
        id -> Uuid,
        route -> Text,
        fingerprint_version -> Int2,
        fingerprint -> Bytea,
        status -> Nullable<Int2>,
        content_type -> Nullable<Text>,
        location -> Nullable<Text>,
        body -> Nullable<Bytea>,
        created_at -> Timestamptz,
        expires_at -> Nullable<Timestamptz>,
        missing_reply -> Nullable<Uuid>,
    }
}
