// @generated automatically by Diesel CLI.

diesel::table! {
    idempotency_keys (account_id, scope, key) {
        account_id -> Uuid,
        #[max_length = 512]
        scope -> Varchar,
        #[max_length = 255]
        key -> Varchar,
        id -> Uuid,
        route -> Text,
        request_id -> Uuid,
        fingerprint_version -> Int2,
        fingerprint -> Bytea,
        status -> Int2,
        content_type -> Nullable<Text>,
        location -> Nullable<Text>,
        body -> Bytea,
        created_at -> Timestamptz,
        expires_at -> Nullable<Timestamptz>,
        #[max_length = 255]
        credential -> Nullable<Varchar>,
    }
}
