//! What is private may be blanked, and nothing else may ever change: the database holds to that, and
//! a blank breaks no proof.

use projections::{db::Tx, on};
use pushledger::audit::verify;
use sha2::{Digest, Sha256};

use super::{live, sealed};
use crate::{
    harness::{World, dump},
    views::Bare,
};

async fn run(tx: &mut Tx, sql: String) -> Result<u64, sqlx::Error> {
    let sql = sqlx::AssertSqlSafe(sql);
    on!(tx.conn(), c => sqlx::query(sql).execute(&mut *c).await.map(|done| done.rows_affected()))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_blanks_what_is_private_and_every_proof_still_holds() {
    let world = World::new().await;
    live(&world, 0..2).await;
    sealed(&world).await;
    let place = world.stop().await;
    let bare = Bare::open(&place).await;
    let pool = bare.ledger.database().ledger_write.clone();
    let all = bare.ledger.read_stored(0, i64::MAX).await.unwrap();
    let row = all.iter().rfind(|row| row.private.is_some()).unwrap();
    let (position, private) = (row.position, row.private.as_deref().unwrap());
    let salt = row.salt.as_deref().unwrap();
    let digest = Sha256::new().chain_update(salt).chain_update(private).finalize().to_vec();
    let mut tx = pool.begin().await.unwrap();
    run(&mut tx, "INSERT INTO erasing (one) VALUES (1)".to_owned()).await.unwrap();
    const SQL: &str = "INSERT INTO erased (position, digest) VALUES ($1, $2)";
    on!(tx.conn(), c => {
        sqlx::query(SQL).bind(position).bind(digest).execute(&mut *c).await.unwrap();
    });
    let blank = "UPDATE events SET private = NULL, private_salt = NULL";
    assert_eq!(run(&mut tx, format!("{blank} WHERE position = {position}")).await.unwrap(), 1);
    run(&mut tx, "DELETE FROM erasing".to_owned()).await.unwrap();
    tx.commit().await.unwrap();
    verify::live(&bare.ledger, None, &[]).await.unwrap();
    let after = bare.ledger.read_stored(position - 1, 1).await.unwrap().remove(0);
    assert_eq!((&after.private, &after.salt, &after.leaf), (&None, &None, &row.leaf));
    assert_eq!(after.computed_leaf().unwrap().as_slice(), row.leaf);
    // While something is erased, nothing else may change; and one that is noted nowhere may not.
    let before = dump(&pool, "events").await;
    for sql in [
        format!("{blank}, body = '{{}}' WHERE position = {position}"),
        format!("UPDATE events SET private = '{{}}' WHERE position = {position}"),
        format!("{blank} WHERE position = {}", position - 1),
        format!("DELETE FROM events WHERE position = {position}"),
    ] {
        let mut tx = pool.begin().await.unwrap();
        run(&mut tx, "INSERT INTO erasing (one) VALUES (1)".to_owned()).await.unwrap();
        let refused = run(&mut tx, sql.clone()).await.expect_err(&sql);
        assert!(refused.to_string().contains("append-only"), "{sql}: {refused}");
        drop(tx);
        assert_eq!(dump(&pool, "events").await, before, "{sql}");
    }
    bare.close().await;
}
