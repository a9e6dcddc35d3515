"""Prepares a load run: creates an app, registers devices, and writes a wrk script of signed pushes.

usage: prepare.py URL ADMIN_TOKEN DEVICES SCRIPT
"""
import hashlib
import http.client
import json
import sys

url, token, devices, script = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
APP, KEY, SYSTEM, SYSTEM_KEY = "MB-LOAD", "k" * 32, "SV-LOAD", "s" * 32
AT = "1700000000000"
server = http.client.HTTPConnection(url.removeprefix("http://"))


def call(path, body, headers):
    server.request("POST", path, body, headers)
    answer = server.getresponse()
    return answer.status, answer.read()


def sign(path, body, app, key):
    stripped = "".join(body.split())
    return hashlib.sha256((path + stripped + app + key + AT).encode()).hexdigest()


app = {"appId": "load", "ums": {"appId": APP, "appKey": KEY, "systemId": SYSTEM, "systemKey": SYSTEM_KEY}}
status, answer = call("/admin/v1/apps", json.dumps(app), {"Authorization": "Bearer " + token})
assert status == 201, answer

for n in range(devices):
    body = json.dumps({"clientId": f"c-{n}", "pushId": f"p-{n}", "deviceType": "01",
                       "collab3th": 0, "appPackage": "com.example.load"})
    path = "/ums/v2/register"
    headers = {"appId": APP, "clientId": f"c-{n}", "timestamp": AT, "sign": sign(path, body, APP, KEY)}
    status, answer = call(path, body, headers)
    assert b'"00000"' in answer, answer

path = "/umse/v2/msgPush"
with open(script, "w") as out:
    out.write("local requests = {}\n")
    for n in range(devices):
        message = {"msgName": "load", "msgType": 3, "body": {"view": {}, "extData": {"n": n}}}
        body = json.dumps({"dst": {"type": 0, "Id": [f"c-{n}"]}, "message": message})
        signed = sign(path, body, SYSTEM, SYSTEM_KEY)
        out.write(f"requests[{n}] = wrk.format('POST', '{path}', {{appId='{SYSTEM}', timestamp='{AT}', "
                  f"sign='{signed}', ['Content-Type']='application/json'}}, [==[{body}]==])\n")
    out.write(f"""
local i = math.random(0, {devices - 1})
request = function() i = (i + 1) % {devices}; return requests[i] end
local refused = 0
response = function(status, headers, body)
  if not body:find('"00000"', 1, true) then
    refused = refused + 1
    if refused == 1 then print('REFUSED ' .. body) end
  end
end
""")
