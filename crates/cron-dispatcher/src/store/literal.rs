//! Words of ours in the text of a statement.
//!
//! An index over the rows with one word (`WHERE stage = 'queued'`) is only for statements that say the word. Bound to a
//! parameter it is not known when the statement is planned: PostgreSQL plans it anew for each execution, and SQLite does
//! with each binding, which costs more than most of our statements.

use diesel::backend::Backend;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::sql_types::Text;

/// One of the words that this program knows, never anything that came from outside.
#[derive(Debug, Clone, Copy, diesel::expression::ValidGrouping)]
pub(crate) struct Literal(pub(super) &'static str);

impl diesel::Expression for Literal {
    type SqlType = Text;
}

impl<DB: Backend> QueryFragment<DB> for Literal {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        out.push_sql("'");
        out.push_sql(self.0);
        out.push_sql("'");
        Ok(())
    }
}

impl QueryId for Literal {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<QS> SelectableExpression<QS> for Literal {}
impl<QS> AppearsOnTable<QS> for Literal {}
