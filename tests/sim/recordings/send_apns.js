// Pushes the sample with a Node.js client to one device, over TLS. Called by record.

const fs = require("fs");
const path = require("path");
const apn = require("@parse/node-apn");

const { url, credentials } = JSON.parse(process.env.FAKE);
const provider = new apn.Provider({
  token: { key: credentials.privateKey, keyId: credentials.keyId, teamId: credentials.teamId },
  address: new URL(url).host,
  port: Number(new URL(url).port),
  ca: fs.readFileSync(path.join(__dirname, "../keys/tls.cert.pem")),
});
const note = new apn.Notification({
  topic: credentials.topics[0],
  pushType: "alert",
  priority: 10,
  id: "123e4567-e89b-42d3-a456-426614174000",
  expiry: Math.floor(Date.now() / 1000) + 3600,
  alert: { title: "Courier", body: "Parcel at the door" },
  badge: 1,
  payload: { order: "7" },
});
const device = "00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0";
provider.send(note, device).then((result) => {
  provider.shutdown();
  if (result.sent.length !== 1) {
    console.error(JSON.stringify(result.failed));
    process.exitCode = 1;
  }
});
