"""OBShell's own client while somebody else tries headers until the key is replaced. Called by hardening.rs: ADDRESS PORT MYSQL_PORT
PASSWORD of a MASTER."""

import sys
import time

import requests
from obshell.info import get_public_key
from sdk_expect import HOST, MYSQL_PORT, PASSWORD, PORT, client, expect

AGENT = f"{HOST}:{PORT}"
SETTINGS = {"mysql_port": str(MYSQL_PORT), "memory_limit": "3G"}


def guess(count):
    with requests.Session() as session:
        for _ in range(count):
            refused = session.get(f"http://{AGENT}/api/v1/ob/info", headers={"X-OCS-Header": "AAAA"})
            if refused.status_code != 401:
                sys.exit(f"a guess: {refused.status_code} {refused.text}")


owner = client(PASSWORD)
expect("a POST", owner.config_observer_sync(SETTINGS, "GLOBAL", []).state, "SUCCEED")
before = get_public_key(AGENT)
guess(4097)
deadline = time.monotonic() + 60
while get_public_key(AGENT) == before:
    if time.monotonic() > deadline:
        sys.exit("the key was not replaced")
expect("a POST under a key that is gone", owner.config_observer_sync(SETTINGS, "GLOBAL", []).state, "SUCCEED")
expect("a GET", len(owner.get_ob_info().agents), 1)
print("everything the SDK was asked to do is done")
