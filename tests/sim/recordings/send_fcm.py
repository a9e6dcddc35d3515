"""Pushes the sample with the vendor's Python client to one token: it asks for an access token at
the vendor's address, which leads to the fake here. Called by record."""

import datetime
import json
import os

import firebase_admin
import requests
from firebase_admin import credentials, messaging

FAKE = json.loads(os.environ["FAKE"])
ADDRESSES = {
    "https://oauth2.googleapis.com/": FAKE["url"] + "/",
    "https://fcm.googleapis.com/": FAKE["url"] + "/",
}
send = requests.adapters.HTTPAdapter.send


def redirected(adapter, request, **options):
    for real, fake in ADDRESSES.items():
        request.url = request.url.replace(real, fake)
    return send(adapter, request, **options)


requests.adapters.HTTPAdapter.send = redirected
account = FAKE["credentials"] | {"token_uri": "https://oauth2.googleapis.com/token"}
firebase_admin.initialize_app(credentials.Certificate(account))
messaging.send(
    messaging.Message(
        token="fcm-token_1:APA91bSample",
        notification=messaging.Notification(title="Courier", body="Parcel at the door"),
        data={"order": "7"},
        android=messaging.AndroidConfig(
            ttl=datetime.timedelta(seconds=3600),
            priority="high",
            notification=messaging.AndroidNotification(notification_count=1),
        ),
        apns=messaging.APNSConfig(payload=messaging.APNSPayload(aps=messaging.Aps(badge=1))),
    )
)
