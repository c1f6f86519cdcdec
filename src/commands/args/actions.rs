//! The commands and their arguments.

use clap::{Subcommand, ValueEnum};

use super::values::{self, When};

/// The commands.
#[derive(Clone, Debug, Subcommand)]
pub enum Action {
    /// Migrate, seed the demo if `DATABASE_URL` is not set, and serve the API until SIGTERM
    Serve,
    /// Bring the schema up to date
    Migrate,
    /// Create and list accounts
    #[command(subcommand)]
    Account(AccountAction),
    /// Create, list and revoke the API keys of accounts
    #[command(subcommand)]
    Key(KeyAction),
    /// Replace a customer's name with a random one in orders, entitlements, events and stored replies
    EraseCustomer {
        /// The account's name or id
        #[arg(value_parser = values::name)]
        account: String,
        /// The customer's name in orders and entitlements
        #[arg(value_parser = values::name)]
        customer: String,
        /// Don't ask
        #[arg(long)]
        yes: bool,
        /// Only report what would be erased
        #[arg(long)]
        dry_run: bool,
    },
    /// Run the sandbox gateway alone
    SandboxGateway,
    /// Print the `OpenAPI` document
    Openapi,
    /// Delete expired idempotency records once
    Sweep,
    /// Resolve the due charges and refunds once, and resume the parked ones
    Resolve,
    /// Show the charges and refunds whose outcome is not known yet
    Backlog {
        /// Only parked ones, which wait until `payments resolve` resumes them
        #[arg(long)]
        parked: bool,
        /// Only this account's: its name or id
        #[arg(long, value_parser = values::name)]
        account: Option<String>,
        /// Tables for people, or JSON for machines
        #[arg(long, value_enum, default_value = "text")]
        format: Listing,
    },
    /// Compare the gateway's PaymentIntents and refunds with the charges and refunds here, and print what differs
    ///
    /// Changes nothing. The exit status is 0 if nothing differs, 1 if something does, and 2 if the comparison could not
    /// be completed.
    Reconcile {
        /// Compare what was created from this time on: 2026-11-27, 2026-11-27T08:30:00Z, or an age: 90m, 25h, 7d
        #[arg(long, value_parser = When::parse)]
        since: When,
        /// Compare what was created before this time. The default is now
        #[arg(long, value_parser = When::parse)]
        until: Option<When>,
        /// Only this account's: its name or id
        #[arg(long, value_parser = values::name)]
        account: Option<String>,
        /// Text for people, or JSON for machines: one object per line, with the totals on the last
        #[arg(long, value_enum, default_value = "text")]
        format: Listing,
    },
    /// A replica of the demo's stage, which the server starts
    #[command(hide = true)]
    StageReplica {
        /// Its part, in JSON
        part: String,
    },
    /// Empty the local cluster's database, including the sandbox gateway's books
    Reset {
        /// Don't ask
        #[arg(long)]
        yes: bool,
    },
}

/// The form of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Listing {
    /// For people
    Text,
    /// For machines
    Json,
}

impl Action {
    /// The exit code of a failure. For `reconcile`, 1 says that something differs.
    pub(crate) const fn failure(&self) -> u8 {
        if matches!(self, Self::Reconcile { .. }) { 2 } else { 1 }
    }
}

/// The commands of `payments account`.
#[derive(Clone, Debug, Subcommand)]
pub enum AccountAction {
    /// Create an account and show its API key, once
    Create {
        /// The account's name: 1 to 255 characters
        #[arg(value_parser = values::name)]
        name: String,
    },
    /// List all accounts, oldest first
    List,
}

/// The commands of `payments key`.
#[derive(Clone, Debug, Subcommand)]
pub enum KeyAction {
    /// Create another key for an account and show it, once
    Create {
        /// The account's name or id
        #[arg(value_parser = values::name)]
        account: String,
        /// The key's name, for example that of the service that gets it
        #[arg(long, value_parser = values::name)]
        name: Option<String>,
    },
    /// List an account's keys: id, name, and when each was created and last used. The keys themselves are not stored
    List {
        /// The account's name or id
        #[arg(value_parser = values::name)]
        account: String,
    },
    /// Revoke a key. It stops working within ten seconds
    Revoke {
        /// The key's id, as `key list` shows it, or the key itself
        #[arg(value_parser = values::name)]
        key: String,
    },
}
