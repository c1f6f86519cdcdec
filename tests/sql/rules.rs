//! The rules for one statement, checked on its syntax tree. A statement that breaks a rule may run on one PostgreSQL
//! server, but where Citus distributes the tables by account, it fails or waits for all nodes.

use std::collections::{BTreeSet, HashSet};
use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, Delete, Expr, FromTable, InTarget, Insert, Join, JoinConstraint, JoinOperator, ObjectName, Query,
    Select, SelectItem, SetExpr, Statement, TableFactor, TableObject, TableWithJoins, Update, UpdateTableFromKind,
    Value, ValueWithSpan, Visit, Visitor, visit_expressions,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

/// The findings about one statement.
#[derive(Debug, Default)]
pub struct Findings {
    /// What the statement does to which table. For example `INSERT orders`, or `LOCK orders` for `FOR UPDATE`.
    pub kinds: BTreeSet<String>,
    /// The rules that the statement breaks.
    pub breaches: Vec<&'static str>,
    /// Whether the statement reads or changes a table over all accounts.
    pub crosses_accounts: bool,
}

/// Checks one statement. `volatile` are the names of PostgreSQL's volatile functions.
pub fn check(sql: &str, volatile: &HashSet<String>) -> Findings {
    let statements = Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap_or_else(|error| panic!("{error} in {sql}"));
    assert_eq!(statements.len(), 1, "one statement at a time: {sql}");
    let mut checker = Checker { volatile, ctes: HashSet::new(), findings: Findings::default() };
    let _ = statements.visit(&mut checker);
    checker.findings
}

struct Checker<'a> {
    volatile: &'a HashSet<String>,
    /// The names of the statement's CTEs, which are not tables.
    ctes: HashSet<String>,
    findings: Findings,
}

impl Visitor for Checker<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.ctes.insert(cte.alias.name.value.clone());
            if !matches!(*cte.query.body, SetExpr::Select(_) | SetExpr::Values(_)) {
                self.findings.breaches.push("a data-modifying CTE");
            }
        }
        if let SetExpr::Select(select) = &*query.body {
            let is_locking = !query.locks.is_empty();
            self.read(select, is_locking);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<()> {
        match statement {
            Statement::Insert(insert) => self.insert(insert),
            Statement::Update(update) => self.update(update),
            Statement::Delete(delete) => self.delete(delete),
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if matches!(expr, Expr::Case { .. }) && has(expr, &is_clock) {
            self.findings.breaches.push("now() inside CASE");
        }
        if function(expr).as_deref() == Some("coalesce") && has(expr, &is_clock) {
            self.findings.breaches.push("now() inside COALESCE");
        }
        ControlFlow::Continue(())
    }
}

impl Checker<'_> {
    fn read(&mut self, select: &Select, is_locking: bool) {
        let verb = if is_locking { "LOCK" } else { "SELECT" };
        if !self.of_one_account(verb, &select.from, select.selection.as_ref()) {
            self.findings.crosses_accounts = true;
            if is_locking {
                self.findings.breaches.push("FOR UPDATE without account_id");
            }
        }
    }

    fn insert(&mut self, insert: &Insert) {
        let TableObject::TableName(table) = &insert.table else { panic!("an INSERT into no table") };
        self.findings.kinds.insert(format!("INSERT {}", last(table)));
        if !insert.columns.iter().any(|column| last(column) == "account_id") {
            self.findings.crosses_accounts = true;
        }
        if insert.source.as_ref().is_some_and(|source| has(&**source, &is_subselect)) {
            self.findings.breaches.push("a sub-select inside INSERT .. VALUES");
        }
        self.returning(insert.returning.as_ref());
    }

    fn update(&mut self, update: &Update) {
        let mut tables = vec![update.table.clone()];
        if let Some(UpdateTableFromKind::AfterSet(from) | UpdateTableFromKind::BeforeSet(from)) = &update.from {
            tables.extend(from.iter().cloned());
        }
        self.findings.crosses_accounts |= !self.of_one_account("UPDATE", &tables, update.selection.as_ref());
        let volatile = self.volatile;
        if has(update, &|expr| function(expr).is_some_and(|name| volatile.contains(&name))) {
            self.findings.breaches.push("a volatile function in UPDATE");
        }
        self.returning(update.returning.as_ref());
    }

    fn delete(&mut self, delete: &Delete) {
        let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
        let tables: Vec<_> = from.iter().chain(delete.using.iter().flatten()).cloned().collect();
        self.findings.crosses_accounts |= !self.of_one_account("DELETE", &tables, delete.selection.as_ref());
        self.returning(delete.returning.as_ref());
    }

    fn returning(&mut self, items: Option<&Vec<SelectItem>>) {
        if items.is_some_and(|items| has(items, &is_clock)) {
            self.findings.breaches.push("now() inside RETURNING");
        }
    }

    /// Whether a condition restricts each of these tables to one account.
    fn of_one_account(&mut self, verb: &str, tables: &[TableWithJoins], condition: Option<&Expr>) -> bool {
        let (mut factors, mut joins, mut conditions) = (Vec::new(), Vec::new(), Vec::new());
        for table in tables {
            flatten(table, &mut factors, &mut joins);
        }
        for condition in condition.into_iter().chain(joins.into_iter().filter_map(on)) {
            conjuncts(condition, &mut conditions);
        }
        let tables: Vec<_> = factors.into_iter().filter_map(|factor| self.table(factor)).collect();
        let alone = tables.len() == 1;
        tables.iter().fold(true, |all, (name, called)| {
            self.findings.kinds.insert(format!("{verb} {name}"));
            all && conditions.iter().any(|condition| holds_account(condition, called, alone))
        })
    }

    /// A table's name and its alias in the statement. None for a CTE or a sub-select.
    fn table(&self, factor: &TableFactor) -> Option<(String, String)> {
        let TableFactor::Table { name, alias, .. } = factor else { return None };
        let name = last(name);
        let called = alias.as_ref().map_or_else(|| name.clone(), |alias| alias.name.value.clone());
        (!self.ctes.contains(&name)).then_some((name, called))
    }
}

/// The tables and the joins of a FROM. Diesel writes a join as `FROM (a JOIN b ON ..)`.
fn flatten<'a>(table: &'a TableWithJoins, factors: &mut Vec<&'a TableFactor>, joins: &mut Vec<&'a Join>) {
    for factor in std::iter::once(&table.relation).chain(table.joins.iter().map(|join| &join.relation)) {
        match factor {
            TableFactor::NestedJoin { table_with_joins, .. } => flatten(table_with_joins, factors, joins),
            other => factors.push(other),
        }
    }
    joins.extend(&table.joins);
}

fn on(join: &Join) -> Option<&Expr> {
    let (JoinOperator::Join(constraint)
    | JoinOperator::Inner(constraint)
    | JoinOperator::Left(constraint)
    | JoinOperator::LeftOuter(constraint)) = &join.join_operator
    else {
        return None;
    };
    if let JoinConstraint::On(condition) = constraint { Some(condition) } else { None }
}

/// Splits a condition into the parts that AND joins.
fn conjuncts<'a>(condition: &'a Expr, found: &mut Vec<&'a Expr>) {
    match condition {
        Expr::Nested(inner) => conjuncts(inner, found),
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            conjuncts(left, found);
            conjuncts(right, found);
        }
        other => found.push(other),
    }
}

/// Whether the condition is `account_id = $n` of the table with this alias.
fn holds_account(condition: &Expr, called: &str, alone: bool) -> bool {
    let Expr::BinaryOp { left, op: BinaryOperator::Eq, right } = condition else { return false };
    let is_bind = matches!(&**right, Expr::Value(ValueWithSpan { value: Value::Placeholder(_), .. }));
    let is_account = match &**left {
        Expr::Identifier(column) => alone && column.value == "account_id",
        Expr::CompoundIdentifier(parts) => {
            matches!(&parts[..], [.., table, column] if table.value == called && column.value == "account_id")
        }
        _ => false,
    };
    is_bind && is_account
}

fn has(part: &impl Visit, is_it: &dyn Fn(&Expr) -> bool) -> bool {
    let look = |expr: &Expr| if is_it(expr) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    visit_expressions(part, look).is_break()
}

fn function(expr: &Expr) -> Option<String> {
    if let Expr::Function(function) = expr { Some(last(&function.name).to_lowercase()) } else { None }
}

fn is_clock(expr: &Expr) -> bool {
    const CLOCKS: [&str; 5] =
        ["now", "current_timestamp", "transaction_timestamp", "statement_timestamp", "clock_timestamp"];
    function(expr).is_some_and(|name| CLOCKS.contains(&name.as_str()))
}

fn is_subselect(expr: &Expr) -> bool {
    matches!(expr, Expr::Subquery(_) | Expr::Exists { .. } | Expr::In { target: InTarget::Subquery(_), .. })
}

/// The last part of a name, without its quotes.
fn last(name: &ObjectName) -> String {
    name.0.last().and_then(|part| part.as_ident()).map(|ident| ident.value.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{Findings, check};

    fn findings(sql: &str) -> Findings {
        check(sql, &["gen_random_uuid".to_owned(), "random".to_owned()].into())
    }

    #[test]
    fn each_rule_finds_a_statement_that_breaks_it() {
        let breaches = [
            (
                "INSERT INTO t (account_id, n) VALUES ($1, (SELECT n FROM u WHERE account_id = $1))",
                "a sub-select inside INSERT .. VALUES",
            ),
            (
                "WITH new AS (INSERT INTO t (account_id) VALUES ($1) RETURNING n) SELECT n FROM new",
                "a data-modifying CTE",
            ),
            ("WITH old AS (DELETE FROM t WHERE account_id = $1) SELECT 1", "a data-modifying CTE"),
            ("UPDATE t SET due = CASE WHEN $2 THEN now() ELSE due END WHERE account_id = $1", "now() inside CASE"),
            ("SELECT CASE WHEN due < CURRENT_TIMESTAMP THEN 1 END FROM t WHERE account_id = $1", "now() inside CASE"),
            ("UPDATE t SET due = coalesce(due, now()) WHERE account_id = $1", "now() inside COALESCE"),
            ("INSERT INTO t (account_id) VALUES ($1) RETURNING n, due <= CURRENT_TIMESTAMP", "now() inside RETURNING"),
            ("UPDATE t SET n = 1 WHERE account_id = $1 RETURNING (due + n) > now()", "now() inside RETURNING"),
            ("UPDATE t SET id = gen_random_uuid() WHERE account_id = $1", "a volatile function in UPDATE"),
            ("UPDATE t SET n = 1 WHERE account_id = $1 AND n < random()", "a volatile function in UPDATE"),
            ("SELECT n FROM t WHERE id = $1 FOR UPDATE", "FOR UPDATE without account_id"),
            ("SELECT n FROM t WHERE due <= now() FOR UPDATE SKIP LOCKED", "FOR UPDATE without account_id"),
            (
                "DELETE FROM t USING (SELECT id FROM t WHERE n > 1 FOR UPDATE) old WHERE t.account_id = $1 AND t.id = old.id",
                "FOR UPDATE without account_id",
            ),
        ];
        for (sql, breach) in breaches {
            assert_eq!(findings(sql).breaches, [breach], "{sql}");
        }
    }

    #[test]
    fn every_read_or_write_without_an_account_is_found() {
        let crossing = [
            "SELECT n FROM t",
            "SELECT n FROM t WHERE account_id = $1 OR n = $2",
            "SELECT n FROM t WHERE NOT (account_id = $1)",
            "SELECT n FROM t WHERE account_id = other",
            "SELECT n FROM t WHERE account_id <> $1",
            "SELECT t.n FROM t JOIN u ON u.id = t.id WHERE t.account_id = $1",
            "SELECT t.n FROM (t JOIN u ON u.id = t.id) WHERE t.account_id = $1",
            "SELECT t.n FROM ((t JOIN u ON u.account_id = $1) JOIN v ON v.id = u.id) WHERE t.account_id = $1",
            "SELECT n FROM t WHERE account_id = $1 AND EXISTS (SELECT 1 FROM u WHERE u.n = $2)",
            "SELECT n FROM (SELECT n FROM t) part",
            "INSERT INTO t (id) VALUES ($1)",
            "UPDATE t SET n = 1 WHERE id = $1",
            "UPDATE t SET n = part.n FROM (SELECT n FROM t) AS part WHERE t.account_id = $1",
            "DELETE FROM t",
            "WITH old AS (SELECT id FROM t) DELETE FROM t USING old WHERE t.account_id = $1 AND t.id = old.id",
        ];
        for sql in crossing {
            assert!(findings(sql).crosses_accounts, "{sql}");
        }
    }

    #[test]
    fn statements_that_keep_the_rules_pass() {
        let sound = [
            "SELECT \"t\".\"n\" FROM \"t\" WHERE ((\"t\".\"account_id\" = $1) AND (\"t\".\"id\" = $2)) FOR UPDATE",
            "SELECT claim.got, r.n FROM (SELECT pg_try_advisory_xact_lock($1) AS got) claim LEFT JOIN t r ON r.account_id = $2 AND r.n = $3",
            "SELECT t.n FROM (t JOIN u ON (u.account_id = $1) AND (u.id = t.id)) WHERE (t.account_id = $1)",
            "UPDATE t SET n = $2 + w.place FROM (SELECT id, row_number() OVER (ORDER BY id) AS place FROM t WHERE account_id = $1) AS w \
             WHERE t.account_id = $1 AND t.id = w.id",
            "UPDATE t SET due = CURRENT_TIMESTAMP WHERE account_id = $1 RETURNING due",
        ];
        for sql in sound {
            let Findings { breaches, crosses_accounts, .. } = findings(sql);
            assert!(breaches.is_empty() && !crosses_accounts, "{sql}: {breaches:?}");
        }
    }

    #[test]
    fn the_checker_names_what_a_statement_does_to_which_table() {
        let sql = "WITH old AS MATERIALIZED (SELECT id FROM t WHERE account_id = $1 FOR UPDATE SKIP LOCKED) \
                   DELETE FROM t r USING old WHERE r.account_id = $1 AND r.id = old.id";
        assert!(findings(sql).kinds.iter().eq(["DELETE t", "LOCK t"]));
    }
}
