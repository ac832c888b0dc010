"""OBShell's own client from PyPI, unpatched, with the root of an agent's own CA. Called by own_ca.rs: ADDRESS PORT ROOT."""

import sys

import requests
from obshell import ClientSet
from obshell.auth import PasswordAuth
from obshell.request import ProtocolOptions

ip, port, root = sys.argv[1], int(sys.argv[2]), sys.argv[3]

assert requests.get(f"https://{ip}:{port}/api/v1/info", verify=root, timeout=30).status_code == 200


def client(options):
    return ClientSet(ip, port, PasswordAuth(""), protocol_options=options).v1


assert client(ProtocolOptions.https(root)).join_sync(ip, port, "zone1").state == "SUCCEED"
for options in [ProtocolOptions.https(True), ProtocolOptions.http()]:
    try:
        client(options).get_info()
    except requests.exceptions.ConnectionError:
        continue
    raise AssertionError("roots of the system do not know it, and there is no plain HTTP")
print("the SDK knows the agent")
