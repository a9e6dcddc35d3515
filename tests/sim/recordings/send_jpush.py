"""Pushes the sample with the vendor's Python client: to one registration id, to three, and to one
with a cid of the pool. Called by record."""

import json
import os

import jpush
from jpush import common

FAKE = json.loads(os.environ["FAKE"])
common.ZONES["DEFAULT"]["PUSH"] = FAKE["url"] + "/v3/"

client = jpush.JPush(FAKE["credentials"]["appKey"], FAKE["credentials"]["masterSecret"])


def sample(*tokens):
    push = client.create_push()
    push.platform = jpush.all_
    push.audience = jpush.audience(jpush.registration_id(*tokens))
    push.notification = jpush.notification(
        alert="Parcel at the door",
        android=jpush.android("Parcel at the door", title="Courier", badge_add_num=1, extras={"order": "7"}),
        ios=jpush.ios({"title": "Courier", "body": "Parcel at the door"}, badge="+1", extras={"order": "7"}),
    )
    push.options = {"time_to_live": 3600, "apns_production": True}
    return push


sample("180a0f76070a1b2c3d4").send()
sample("180a0f76070a1b2c3d4", "180a0f76070a1b2c3d5", "180a0f76070a1b2c3d6").send()
pooled = sample("180a0f76070a1b2c3d4")
pooled.cid = pooled.get_cid(1, "push").payload["cidlist"][0]
pooled.send()
