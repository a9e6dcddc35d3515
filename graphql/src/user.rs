//! Users of an app and the labels that they are in.

use async_graphql::{Context, ID, Object, Result};
use chrono::{DateTime, Utc};
use projections::registry::{self, AccountRow};

use crate::{
    Hidden as _, Sources,
    device::{Device, private},
    list::{Asked, Cursor, Page},
    loaders::{DevicesOf, LabelsOf, load},
    time,
};

/// A user of an app, with an address for each protocol.
pub(crate) struct User(pub(crate) AccountRow);

/// A user of one app, by any of its protocols.
#[Object]
impl User {
    /// Its account: opaque, and the name of its stream in the ledger after `account/`.
    async fn account(&self) -> ID {
        self.0.account.to_string().into()
    }

    /// Position of the event that gave it the addresses that it has.
    async fn position(&self) -> i64 {
        self.0.position
    }

    /// When it was seen for the first time.
    async fn opened_at(&self) -> DateTime<Utc> {
        time(self.0.opened_at)
    }

    /// Its UMS `userId`; null for viewers who may not see it.
    async fn ums_user(&self, ctx: &Context<'_>) -> Result<Option<&str>> {
        private(ctx, ("account", self.0.account), self.0.ums_user.as_deref())
    }

    /// Its Easemob username, in lower case; null for viewers who may not see it.
    async fn username(&self, ctx: &Context<'_>) -> Result<Option<&str>> {
        private(ctx, ("account", self.0.account), self.0.username.as_deref())
    }

    /// Its Tencent `UserID`; null for viewers who may not see it.
    async fn tencent(&self, ctx: &Context<'_>) -> Result<Option<&str>> {
        private(ctx, ("account", self.0.account), self.0.tencent.as_deref())
    }

    /// Its nickname; null for viewers who may not see it.
    async fn nickname(&self, ctx: &Context<'_>) -> Result<Option<&str>> {
        private(ctx, ("account", self.0.account), self.0.nickname.as_deref())
    }

    /// Its devices, unregistered ones too, in order of number.
    #[graphql(complexity = "5 * child_complexity")]
    async fn devices(&self, ctx: &Context<'_>) -> Result<Vec<Device>> {
        let found = load(ctx, DevicesOf(self.0.account)).await?;
        Ok(found.unwrap_or_default().into_iter().map(Device).collect())
    }

    /// The labels that it is in, in order of creation.
    #[graphql(complexity = "5 * child_complexity")]
    async fn labels(&self, ctx: &Context<'_>) -> Result<Vec<Label>> {
        let found = load(ctx, LabelsOf(self.0.account)).await?;
        Ok(found.unwrap_or_default().into_iter().map(Label).collect())
    }
}

/// A group of users that can be pushed to.
pub(crate) struct Label(pub(crate) domain::label::Label);

/// A label of one app, to which tasks can be pushed.
#[Object]
impl Label {
    /// Name of its stream in the ledger after `label/`.
    async fn id(&self) -> ID {
        self.0.stream.to_string().into()
    }

    /// Its name.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// What it is for.
    async fn description(&self) -> &str {
        &self.0.description
    }

    /// When it was created.
    async fn created_at(&self) -> DateTime<Utc> {
        time(self.0.created_at)
    }

    /// Users that are in it.
    async fn members(&self) -> i64 {
        self.0.members
    }

    /// Those users, in the order in which they joined.
    #[graphql(complexity = "first.clamp(1, 200) as usize * child_complexity")]
    async fn users(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 50, desc = "Users of the page, at most 200.")] first: i64,
        #[graphql(desc = "Cursor after which the page begins.")] after: Option<String>,
    ) -> Result<Page<User>> {
        let asked = Asked::new(first, after.as_deref())?;
        let sources = ctx.data::<Sources>()?;
        let mut checkout = sources.registry.checkout().await.hidden()?;
        let from = asked.after.clone().map_or((0, String::new()), |after| (after.0, after.1));
        let (conn, label) = (&mut checkout.conn(), self.0.stream);
        let members = registry::member_page(conn, label, &from, asked.rows()).await.hidden()?;
        let accounts: Vec<_> = members.iter().filter_map(|m| m.after.1.parse().ok()).collect();
        let users = registry::by_ids(conn, &accounts).await.hidden()?;
        let rows = members.into_iter().filter_map(|member| {
            let (position, account) = member.after;
            let user = users.iter().find(|user| user.account.to_string() == account)?;
            Some((Cursor(position, account), User(user.clone())))
        });
        Ok(asked.page(rows))
    }
}
