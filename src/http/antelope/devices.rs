//! `/v2/devices/state`, `/v2/devices/ids` and `/v2/devices/tokens`: which devices are online, which
//! numbers devices may have, and tokens for them.

use std::collections::HashSet;

use domain::device::Device;
use projections::registry;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Reply,
    errors::{Problem, illegal},
    gate::Call,
    push::{MAX_CIDS, owned},
};
use crate::{antelope::sign, app::Server};

/// Largest page, and the size of a page unless the caller says otherwise.
const MAX_PAGE: u32 = 100;
/// How long a token lives, in seconds, unless the caller says otherwise, or says too much.
const TOKEN_SECONDS: i64 = 300;
/// How long a token may live, in seconds.
const MAX_TOKEN_SECONDS: i64 = 86_400;
/// What a device of the vendor's starts its SDK with. Its clients want it not to be empty.
const INIT_STRING: &str = "[Config]\r\nIsDebug=0";
/// Offline, and online with nothing to stream.
const OFFLINE: u8 = 0;
const READY: u8 = 1;
/// What a range is used for: devices that send.
const PUBLISHER: u8 = 1;

#[derive(Deserialize)]
struct Cids {
    cids: Option<Vec<u32>>,
    duration: Option<i64>,
}

pub(super) async fn state(server: &Server, call: &Call) -> Result<Reply, Problem> {
    let Cids { cids, .. } = call.body()?;
    let cids = cids.unwrap_or_default();
    limited(&cids)?;
    cids.iter().try_for_each(|cid| owned(call, *cid))?;
    let (page, size) = (number(call, "page", 1)?, number(call, "size", MAX_PAGE)?);
    if size > MAX_PAGE {
        return Err(Problem::PageTooLarge(MAX_PAGE));
    }
    let offset = (i64::from(page) - 1) * i64::from(size);
    let mut checkout = server.ledger.database().ledger_read.checkout().await?;
    let (asked, devices, total): (Vec<u32>, Vec<Device>, i64) = if cids.is_empty() {
        let app = call.app.id();
        let conn = &mut checkout.conn();
        let devices = registry::page_of_cids(conn, app, offset, size.into()).await?;
        let total = registry::count_of_cids(conn, app).await?;
        (devices.iter().filter_map(Device::cid).collect(), devices, total)
    } else {
        let total = i64::try_from(cids.len()).unwrap_or(i64::MAX);
        let skipped = usize::try_from(offset).unwrap_or(usize::MAX);
        let taken = usize::try_from(size).unwrap_or(usize::MAX);
        let asked: Vec<u32> = cids.into_iter().skip(skipped).take(taken).collect();
        let found = registry::by_cids(&mut checkout.conn(), call.app.id(), &asked).await?;
        (asked, found, total)
    };
    drop(checkout);
    let numbers: Vec<i64> = devices.iter().map(|device| device.number).collect();
    let present = server.presence.present(&numbers).await?;
    let here = devices.iter().filter(|device| present.contains(&device.number));
    let here: HashSet<u32> = here.filter_map(Device::cid).collect();
    let shown = |cid: u32| shown(cid, if here.contains(&cid) { READY } else { OFFLINE });
    Ok(Reply::of(json!({
        "init_string": INIT_STRING,
        "devices": asked.into_iter().map(shown).collect::<Vec<_>>(),
        "total": total,
        "page": page,
        "size": size,
    })))
}

/// A device as clients read it. Nothing is known of addresses and streams: there are none.
fn shown(cid: u32, state: u8) -> Value {
    json!({
        "cid": cid, "state": state, "config_type": 0, "conn_key": 0,
        "tracker_ip": "", "tracker_port": 0, "public_ip": "", "public_port": 0,
        "local_ip": "", "local_port": 0, "relay_ip": "", "relay_port": 0,
        "cover_url": "", "rtmp_url": "", "hls": "",
    })
}

pub(super) fn ids(call: &Call) -> Reply {
    let antelope = call.antelope();
    let ranges = || antelope.cid_ranges.iter();
    let range = |&(first, last): &_| json!({ "begin": first, "end": last, "usage": PUBLISHER });
    // So an earlier edition of the document words it.
    let segment = |&(first, last): &_| json!({ "from": first, "to": last });
    Reply::of(json!({
        "app_id": antelope.app_id,
        "cids": ranges().map(range).collect::<Vec<_>>(),
        "segments": ranges().map(segment).collect::<Vec<_>>(),
    }))
}

pub(super) fn tokens(server: &Server, call: &Call) -> Result<Reply, Problem> {
    let Cids { cids, duration } = call.body()?;
    let cids = cids.ok_or_else(|| illegal("missing field `cids`"))?;
    limited(&cids)?;
    if cids.iter().any(|cid| !call.antelope().owns(*cid)) {
        return Err(Problem::NotYours);
    }
    let wanted = duration.filter(|seconds| (1..=MAX_TOKEN_SECONDS).contains(seconds));
    let expire = server.clock.now() / 1_000_000 + wanted.unwrap_or(TOKEN_SECONDS);
    let expire = u32::try_from(expire).unwrap_or(u32::MAX);
    // The first key is the one that stays when the list shrinks after a rotation.
    let key = call.app.antelope_keys.first().map(String::as_str).unwrap_or_default();
    let token = |cid: u32| json!({ "cid": cid, "token": sign(key, cid, 0, expire) });
    Ok(Reply::of(json!({ "tokens": cids.into_iter().map(token).collect::<Vec<_>>() })))
}

fn limited(cids: &[u32]) -> Result<(), Problem> {
    if cids.len() > MAX_CIDS {
        return Err(illegal(format!("cids has at most {MAX_CIDS} items")));
    }
    Ok(())
}

/// A number from 1 in the query.
fn number(call: &Call, name: &str, default: u32) -> Result<u32, Problem> {
    let Some(text) = call.query.get(name) else { return Ok(default) };
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| illegal(format!("{name} must be a number from 1")))
}
