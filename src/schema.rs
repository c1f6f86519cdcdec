// @generated automatically by Diesel CLI.

diesel::table! {
    accounts (account_id) {
        account_id -> Uuid,
        name -> Text,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    api_keys (hash) {
        hash -> Bytea,
        account_id -> Uuid,
        created_at -> Timestamptz,
        revoked_at -> Nullable<Timestamptz>,
        name -> Nullable<Text>,
        last_used_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    charges (account_id, id) {
        account_id -> Uuid,
        id -> Uuid,
        order_id -> Uuid,
        status -> Text,
        amount -> Int8,
        currency -> Text,
        payment_method -> Text,
        amount_refunded -> Int8,
        failure_code -> Nullable<Text>,
        #[max_length = 64]
        reference -> Varchar,
        #[max_length = 255]
        idempotency_key -> Varchar,
        request_id -> Uuid,
        created_at -> Timestamptz,
        #[max_length = 255]
        gateway_id -> Nullable<Varchar>,
        metadata -> Jsonb,
    }
}

diesel::table! {
    entitlements (account_id, id) {
        account_id -> Uuid,
        id -> Uuid,
        customer -> Text,
        feature -> Text,
        units -> Nullable<Int8>,
        units_used -> Int8,
        order_id -> Nullable<Uuid>,
        expires_at -> Nullable<Timestamptz>,
        revoked_at -> Nullable<Timestamptz>,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    event_feeds (account_id) {
        account_id -> Uuid,
        last_position -> Int8,
    }
}

diesel::table! {
    events (account_id, id) {
        account_id -> Uuid,
        id -> Uuid,
        position -> Nullable<Int8>,
        #[sql_name = "type"]
        type_ -> Text,
        data -> Json,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    gateway_mode (only_row) {
        only_row -> Bool,
        mode -> Text,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    orders (account_id, id) {
        account_id -> Uuid,
        id -> Uuid,
        #[max_length = 255]
        customer -> Varchar,
        status -> Text,
        currency -> Text,
        amount -> Int8,
        items -> Jsonb,
        created_at -> Timestamptz,
        metadata -> Jsonb,
    }
}

diesel::table! {
    products (account_id, sku) {
        account_id -> Uuid,
        sku -> Text,
        name -> Text,
        unit_amount -> Int8,
        currency -> Text,
        stock -> Nullable<Int8>,
        reserved -> Int8,
        grant_feature -> Nullable<Text>,
        grant_units -> Nullable<Int8>,
        grant_days -> Nullable<Int4>,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
    }
}

diesel::table! {
    refunds (account_id, id) {
        account_id -> Uuid,
        id -> Uuid,
        charge_id -> Uuid,
        status -> Text,
        amount -> Int8,
        currency -> Text,
        #[max_length = 64]
        reference -> Varchar,
        #[max_length = 255]
        idempotency_key -> Varchar,
        request_id -> Uuid,
        created_at -> Timestamptz,
        #[max_length = 255]
        gateway_id -> Nullable<Varchar>,
        failure_code -> Nullable<Text>,
        metadata -> Jsonb,
    }
}

diesel::joinable!(api_keys -> accounts (account_id));

diesel::allow_tables_to_appear_in_same_query!(
    accounts,
    api_keys,
    charges,
    entitlements,
    event_feeds,
    events,
    gateway_mode,
    orders,
    products,
    refunds,
);
